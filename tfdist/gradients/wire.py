"""Rounds numbers to a narrower type for their exchange between replicas."""

import tensorflow as tf

from tfdist.internals.access.collectives import gather_over_replicas, replica_context


def narrowed_type(dtype, wire):
    """Returns the type in which numbers of a type are exchanged: `wire`, unless that is None or no narrower."""
    return wire if wire and dtype.is_floating and dtype.size > wire.size else dtype


def rounded(tensors, wire, caller):
    """Rounds tensors for their exchange between replicas; call it in replica context.

    bfloat16 has the range of float32. float16 does not, so each tensor is first multiplied by a power of two, the same
    on every replica, with which the sum of all replicas' largest numbers is just finite.

    Args:
        tensors: list of tensors, the same types on every replica.
        wire: None, or the floating type to which wider numbers are rounded for the exchange.
        caller: the name of the caller, for messages.

    Returns:
        (tensors, scales): lists of the same length; a scale is a float32 scalar, or None where none is needed.
    """
    types = [narrowed_type(tensor.dtype, wire) for tensor in tensors]
    scales = [None] * len(tensors)
    places = [place for place, tensor in enumerate(tensors) if types[place] != tensor.dtype]
    if wire == tf.float16 and places:
        found = _scales([tensors[place] for place in places], caller)
        for place, scale in zip(places, tf.unstack(found, num=len(places)), strict=True):
            scales[place] = scale
    scaled = [
        tensor if scale is None else tensor * tf.cast(scale, tensor.dtype)
        for tensor, scale in zip(tensors, scales, strict=True)
    ]
    return [tf.cast(tensor, dtype) for tensor, dtype in zip(scaled, types, strict=True)], scales


def restored(total, scale, dtype):
    """Returns a sum or a product of rounded tensors in its original type, without the scale."""
    total = tf.cast(total, dtype)
    return total if scale is None else total / tf.cast(scale, dtype)


def _scales(tensors, caller):
    largest = [tf.reduce_max(tf.abs(tf.cast(tensor, tf.float32))) for tensor in tensors]
    # The maximum of an empty tensor is negative.
    (by_replica,) = gather_over_replicas([tf.maximum(tf.stack(largest), 0.0)], caller)
    limit = tf.float16.max / replica_context(caller).num_replicas_in_sync
    exponents = tf.floor(tf.math.log(limit / tf.reduce_max(by_replica, axis=0)) / tf.math.log(2.0))
    # Zeros need no scale, and numbers that are not finite must stay so.
    exponents = tf.where(tf.math.is_finite(exponents), tf.clip_by_value(exponents, -100.0, 100.0), 0.0)
    return tf.pow(2.0, exponents)
