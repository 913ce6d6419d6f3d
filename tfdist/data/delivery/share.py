"""The part of a global batch that one replica gets."""

from typing import Any, NamedTuple

import tensorflow as tf

from tfdist.data import order
from tfdist.ops.rows import rows_of


class Share(NamedTuple):
    """One replica's part of a global batch.

    Attributes:
        batch: nested tensors (B, ...): its rows, or one row that does not count if it has none. Where shapes are
            static, further rows that do not count follow those that do.
        replica_rows: int64 scalar, how many rows count; they come first.
        global_rows: int64 scalar, the rows of all replicas together; in some pipelines 0 after the end of the data.
        first_row: int64 scalar, the place of the first row in the global batch.
    """

    batch: Any
    replica_rows: tf.Tensor
    global_rows: tf.Tensor
    first_row: tf.Tensor


class Form(NamedTuple):
    """The special cases that a source's batches may have; a compiled step skips the checks for the others.

    Attributes:
        may_be_empty: some batch may have fewer rows than there are replicas.
        padded: shares may have rows that do not count after those that do.
        most: None, or the rows of the largest global batch, where workers exchange rows.
    """

    may_be_empty: bool
    padded: bool = False
    most: int | None = None


def cut(batch, replicas, replica, size=None, before=0):
    """Cuts one replica's `Share` out of a global batch.

    Args:
        batch: nested tensors (G, ...), also sparse and ragged ones; only dense ones with a `size` or rows before.
        replicas, replica: the number of replicas, and the number of this one.
        size: None, or the number of rows of every share, for static shapes: the last row that counts is repeated.
        before: how many rows before its own the share begins with; those before the first row are the last ones. The
            share's numbers are those of its own rows.
    """
    rows = count_rows(batch)
    if replicas == 1 and size is None and not before:
        whole = tf.nest.map_structure(lambda part: None if _is_absent(part) else part, batch)
        return Share(whole, rows, rows, tf.constant(0, tf.int64))
    low, high = order.replica_bounds(rows, replicas, replica)
    # A replica without rows gets one that does not count.
    end = tf.maximum(high, low + 1)
    if size is None and not before:
        mine = tf.nest.map_structure(lambda part: slice_rows(part, low, end), batch)
    else:
        places = low + tf.range(-before, end - low if size is None else size, dtype=tf.int64)
        places = tf.minimum(places, end - 1)
        places = places % rows if before else places
        mine = tf.nest.map_structure(lambda part: None if _is_absent(part) else tf.gather(part, places), batch)
    return Share(mine, high - low, rows, low)


def rows_that_count(share):
    """Returns a share's batch without the rows that do not count; it may have no rows at all."""
    return tf.nest.map_structure(lambda part: slice_rows(part, 0, share.replica_rows), share.batch)


def count_rows(batch):
    """Returns the number of rows of a batch: int64 scalar."""
    return rows_of(next(part for part in tf.nest.flatten(batch) if not _is_absent(part)))


def slice_rows(part, low, high):
    """Returns the rows low..high-1 of a dense, sparse or ragged tensor; None where it is absent."""
    if _is_absent(part):
        return None
    if not isinstance(part, tf.SparseTensor):
        return part[low:high]
    begin = tf.concat([[tf.cast(low, tf.int64)], tf.zeros_like(part.dense_shape[1:])], axis=0)
    size = tf.concat([[tf.cast(high - low, tf.int64)], part.dense_shape[1:]], axis=0)
    return tf.sparse.slice(part, begin, size)


def is_absent_spec(spec):
    """Returns whether a spec is that of an absent part: of an Optional, or of None."""
    # The type of None's spec has no public name before TensorFlow 2.21.
    return not hasattr(spec, "shape")


def _is_absent(part):
    """Returns whether a part is absent, such as no weights; Keras passes a generator's None on as an Optional."""
    return part is None or isinstance(part, tf.experimental.Optional)
