"""What one replica gets of a global batch."""

from typing import Any, NamedTuple

import tensorflow as tf

from tfdist.data import order


class Share(NamedTuple):
    """One replica's part of a global batch.

    Attributes:
        batch: nested tensors (B, ...): its rows, or one row that does not count where it has none; where shapes are
            static, more rows that do not count behind those that do.
        replica_rows: int64 scalar, how many of the rows count: the first ones.
        global_rows: int64 scalar, the rows of all replicas together; in some pipelines 0 after the end of the data.
        first_row: int64 scalar, the place of the first row in the global batch.
    """

    batch: Any
    replica_rows: tf.Tensor
    global_rows: tf.Tensor
    first_row: tf.Tensor


class Form(NamedTuple):
    """What may come up in a source's batches, and what a compiled step need not look for.

    Attributes:
        may_be_empty: some batch may have fewer rows than there are replicas.
        padded: shares may have rows that do not count, behind those that do.
    """

    may_be_empty: bool
    padded: bool = False


def cut(batch, replicas, replica, size=None):
    """Cuts one replica's `Share` out of a global batch.

    Args:
        batch: nested tensors (G, ...), also sparse and ragged ones; dense ones where there is a `size`.
        replicas, replica: how many there are, and which one this is.
        size: None, or how many rows every share is to have, for static shapes: the last one that counts is repeated.
    """
    rows = count_rows(batch)
    if replicas == 1 and size is None:
        whole = tf.nest.map_structure(lambda part: None if _is_absent(part) else part, batch)
        return Share(whole, rows, rows, tf.constant(0, tf.int64))
    low, high = order.replica_bounds(rows, replicas, replica)
    # A replica without rows borrows one, which will not count.
    end = tf.maximum(high, low + 1)
    if size is None:
        mine = tf.nest.map_structure(lambda part: slice_rows(part, low, end), batch)
    else:
        places = tf.minimum(low + tf.range(size, dtype=tf.int64), end - 1)
        mine = tf.nest.map_structure(lambda part: None if _is_absent(part) else tf.gather(part, places), batch)
    return Share(mine, high - low, rows, low)


def rows_that_count(share):
    """Gives a share's batch without the rows that do not count: possibly no rows at all."""
    return tf.nest.map_structure(lambda part: slice_rows(part, 0, share.replica_rows), share.batch)


def count_rows(batch):
    """Counts the rows of a batch: int64 scalar."""
    part = next(part for part in tf.nest.flatten(batch) if not _is_absent(part))
    if isinstance(part, tf.SparseTensor):
        return part.dense_shape[0]
    if isinstance(part, tf.RaggedTensor):
        return part.nrows(out_type=tf.int64)
    return tf.shape(part, out_type=tf.int64)[0]


def slice_rows(part, low, high):
    """Gives the rows low..high-1 of a dense, sparse or ragged tensor; None where it is absent."""
    if _is_absent(part):
        return None
    if not isinstance(part, tf.SparseTensor):
        return part[low:high]
    begin = tf.concat([[tf.cast(low, tf.int64)], tf.zeros_like(part.dense_shape[1:])], axis=0)
    size = tf.concat([[tf.cast(high - low, tf.int64)], part.dense_shape[1:]], axis=0)
    return tf.sparse.slice(part, begin, size)


def is_absent_spec(spec):
    """Says whether it is the spec of something that stands for nothing: of an Optional, or of None."""
    # The type of the latter has no public name before TensorFlow 2.21.
    return not hasattr(spec, "shape")


def _is_absent(part):
    """Says whether it stands for nothing, such as no weights: Keras hands on a generator's None as an Optional."""
    return part is None or isinstance(part, tf.experimental.Optional)
