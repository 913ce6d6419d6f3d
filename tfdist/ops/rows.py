"""Rows of tensors of each kind."""

import tensorflow as tf


def rows_of(part: tf.Tensor | tf.SparseTensor | tf.RaggedTensor) -> tf.Tensor:
    """Returns the number of rows of a dense, sparse or ragged tensor: int64 ()."""
    if isinstance(part, tf.SparseTensor):
        return part.dense_shape[0]
    if isinstance(part, tf.RaggedTensor):
        return part.nrows(out_type=tf.int64)
    return tf.shape(part, out_type=tf.int64)[0]
