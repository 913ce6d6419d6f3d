"""The rows of all replicas on each of them, from replica context.

Each replica puts its rows in their places among zeros; the sum over the replicas has all rows in the global order. Only
such a sum takes any number of rows: between processes a collective knows its tensor by one shape within a call.
"""

from typing import NamedTuple

import tensorflow as tf

from tfdist.internals.access.collectives import gather_over_replicas, sum_over_replicas
from tfdist.internals.access.dependence import note_sums
from tfdist.internals.access.replica import current_rows
from tfdist.process.errors import UsageError

# What TensorFlow's collectives take.
CARRIED = (tf.float16, tf.float32, tf.float64, tf.int32, tf.int64)
# Type → one that is carried and has a value for each of its own.
WIDER = {
    **dict.fromkeys((tf.bool, tf.int8, tf.uint8, tf.int16, tf.uint16), tf.int32),
    tf.bfloat16: tf.float32,
    tf.uint32: tf.int64,
}
IN_PARTS = (tf.complex64, tf.complex128, tf.uint64)


def encode(values):
    """Returns values in a type that collectives take, with parts of complex numbers side by side."""
    if values.dtype.is_complex:
        return tf.stack([tf.math.real(values), tf.math.imag(values)], axis=-1)
    if values.dtype == tf.uint64:
        return tf.bitcast(values, tf.int64)
    return tf.cast(values, WIDER.get(values.dtype, values.dtype))


def decode(values, dtype):
    """Returns what `encode` was given."""
    if dtype.is_complex:
        return tf.complex(values[..., 0], values[..., 1])
    return tf.bitcast(values, dtype) if dtype == tf.uint64 else tf.cast(values, dtype)


def is_carried(value):
    """Returns whether the rows of a value can be gathered: those of a dense tensor of numbers or truth values."""
    dense = isinstance(value, tf.Tensor) and value.shape.rank
    return bool(dense) and value.dtype in (*CARRIED, *WIDER, *IN_PARTS)


class RowPlace(NamedTuple):
    """The place of this replica's rows among those of all: int64 scalars.

    Attributes:
        mine: the number of this replica's rows.
        first: the place of the first one.
        total: the rows of all replicas.
        size: the rows of the tensor that is summed, at least `total`; the same in all steps of a call.
    """

    mine: tf.Tensor
    first: tf.Tensor
    total: tf.Tensor
    size: tf.Tensor


def place_of_batch(rows):
    """Returns the `RowPlace` of values that have a row for each row of the batch.

    Args:
        rows: the `Rows` of this replica.
    """
    return RowPlace(rows.mine, rows.first, rows.total, rows.total if rows.most is None else rows.most)


def places_by_counts(values, caller):
    """Returns the `RowPlace` of each value, from a small collective; and the number of replicas that have rows.

    Args:
        values: list of tensors (B, ...); B may differ between values and between replicas.
        caller: the name of the caller, for messages.
    """
    rows = current_rows()
    counts = [tf.shape(value, out_type=tf.int64)[0] for value in values]
    present = tf.constant(1, tf.int64) if rows is None else rows.present(tf.int64)
    # A row that is borrowed does not count.
    (all_counts,) = gather_over_replicas([tf.stack([count * present for count in counts] + [present])], caller)
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    before = tf.reduce_sum(all_counts[:replica], axis=0)
    totals = tf.reduce_sum(all_counts, axis=0)
    places = []
    for number, count in enumerate(counts):
        total = totals[number]
        size = total
        if rows is not None and rows.most is not None:
            size = rows.most * -(-total // rows.total)
        places.append(RowPlace(count * present, before[number], total, size))
    return places, totals[-1]


def gather(values, places, caller="tfdist"):
    """Gathers the rows of all replicas; the gradient that flows back is summed over the replicas.

    Args:
        values: list of tensors (B, ...).
        places: a `RowPlace` for each.
        caller: the name of the caller, for messages.

    Returns:
        The list of tensors (rows of all replicas, ...), the same on every replica.
    """
    sums = sum_over_replicas([_placed(value, place) for value, place in zip(values, places, strict=True)], caller)
    return [_taken(*each) for each in zip(sums, values, places, strict=True)]


def gather_for_one_loss(values, places, replicas=None, caller="tfdist"):
    """Gathers the rows of all replicas for a loss that each of them computes in the same way.

    No collective runs in the backward pass: each replica knows the gradient of all rows, and keeps that of its own.

    Args:
        values: list of tensors (B, ...).
        places: a `RowPlace` for each.
        replicas: the number of replicas that have rows; None to count them in the same collective.
        caller: the name of the caller, for messages.

    Returns:
        (list of tensors (rows of all replicas, ...), the number of replicas that have rows). The gradient of the rows
        is multiplied by that number, because `count_once` divides by it.
    """
    placed = [_placed(value, place) for value, place in zip(values, places, strict=True)]
    stopped = [tf.stop_gradient(value) for value in placed]
    if replicas is None:
        dtype = next((value.dtype for value in placed if value.dtype.is_floating), tf.float32)
        *sums, replicas = sum_over_replicas([*stopped, current_rows().present(dtype)], caller)
    else:
        sums = sum_over_replicas(stopped, caller)
    wholes = [_own_gradient(*each, replicas) for each in zip(placed, sums, strict=True)]
    return [_taken(*each) for each in zip(wholes, values, places, strict=True)], replicas


def count_once(loss, replicas):
    """Returns a loss whose gradients, weighted by this replica's share of the rows, add up to one loss.

    Args:
        loss: a scalar that every replica has computed from the same rows.
        replicas: the number of replicas that have rows.
    """
    rows = current_rows()
    factor = tf.math.reciprocal_no_nan(tf.cast(replicas, loss.dtype))
    if rows is not None:
        # The step multiplies a replica's loss by its share of the rows.
        factor = tf.math.divide_no_nan(factor, rows.share(loss.dtype))
    counted = scaled_gradient(loss, factor)
    note_sums([counted])
    return counted


@tf.custom_gradient
def scaled_gradient(value, factor):
    """Returns a value whose gradient is multiplied by a factor."""
    return tf.identity(value), lambda upstream: (upstream * factor, None)


@tf.custom_gradient
def _replaced(placed, whole, factor):
    return tf.identity(whole), lambda upstream: (tf.convert_to_tensor(upstream) * factor, None, None)


def _own_gradient(placed, whole, replicas):
    if not placed.dtype.is_floating:
        return whole
    # Not noted as a sum, because gradients of it are this replica's part, and are still to be summed.
    return _replaced(placed, whole, tf.cast(replicas, placed.dtype))


def _placed(value, place):
    """Returns this replica's rows in their places, among zeros for those of the others."""
    if not is_carried(value):
        raise UsageError(
            f"rows of all replicas: {value!r} has no rows that replicas can exchange. Give a dense tensor (B, ...) of "
            "numbers or truth values."
        )
    own = encode(value)[: place.mine]
    after = place.size - place.first - place.mine
    return tf.pad(own, [[place.first, after], *[[0, 0]] * (own.shape.rank - 1)])


def _taken(whole, value, place):
    rows = tf.ensure_shape(whole[: place.total], [None, *_row_shape(value)])
    return decode(rows, value.dtype)


def _row_shape(value):
    return [*value.shape[1:], 2] if value.dtype.is_complex else value.shape[1:]
