"""Gradients of rows that were looked up, `tf.IndexedSlices`: one shape in every step of a call.

They cross the replicas as they are, a row as often as it was looked up: Keras' optimizers take squares and norms of
them before they are added up, so that their dense sum would give other weights than one device.
"""

import tensorflow as tf


def filled(gradients, rows, alike=False):
    """Fills sparse gradients up with zeros for a row that they have already.

    Between processes TensorFlow's collectives know a tensor by one shape within a call, and batches differ in size.

    Args:
        gradients: list of tensors, `tf.IndexedSlices` or others.
        rows: tuple of (place in the list, rows to fill up to).
        alike: whether all have as many rows already.
    """
    if alike:
        return gradients
    wanted = dict(rows)
    return [
        _filled(gradient, wanted[place]) if place in wanted and isinstance(gradient, tf.IndexedSlices) else gradient
        for place, gradient in enumerate(gradients)
    ]


def _filled(gradient, rows):
    missing = rows - tf.shape(gradient.indices)[0]
    indices = tf.concat([gradient.indices, tf.repeat(gradient.indices[:1], missing)], axis=0)
    values = tf.pad(gradient.values, [[0, missing], *[[0, 0]] * (gradient.values.shape.rank - 1)])
    shaped = tf.ensure_shape(values, [rows, *gradient.values.shape[1:]])
    return tf.IndexedSlices(shaped, tf.ensure_shape(indices, [rows]), gradient.dense_shape)
