"""Numbers as they cross the replicas: in their own type, or rounded to a narrower one."""

import tensorflow as tf

from tfdist.internals.access.collectives import gather_over_replicas, replica_context


def narrowed_type(dtype, wire):
    """Gives the type in which numbers of a type cross the replicas: `wire`, unless that is None or no narrower."""
    return wire if wire and dtype.is_floating and dtype.size > wire.size else dtype


def rounded(tensors, wire, caller):
    """Rounds tensors for their way over the replicas; call it in replica context.

    bfloat16 has the range of float32. float16 has not: there each tensor is multiplied before with a power of two, the
    same on every replica, by which the sum of all replicas' largest numbers is just finite.

    Args:
        tensors: list of tensors, the same types on every replica.
        wire: None, or the floating type in which wider ones cross the replicas.
        caller: who asks, for messages.

    Returns:
        (tensors, scales): lists of the same length; a scale is a float32 scalar, or None where none was wanted.
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
    """Gives a sum of rounded tensors, or a product of them, in its own type and size again."""
    total = tf.cast(total, dtype)
    return total if scale is None else total / tf.cast(scale, dtype)


def _scales(tensors, caller):
    largest = [tf.reduce_max(tf.abs(tf.cast(tensor, tf.float32))) for tensor in tensors]
    # The largest of nothing is less than nothing.
    (by_replica,) = gather_over_replicas([tf.maximum(tf.stack(largest), 0.0)], caller)
    limit = tf.float16.max / replica_context(caller).num_replicas_in_sync
    exponents = tf.floor(tf.math.log(limit / tf.reduce_max(by_replica, axis=0)) / tf.math.log(2.0))
    # Zeros need no scale, and what is not finite is to stay so.
    exponents = tf.where(tf.math.is_finite(exponents), tf.clip_by_value(exponents, -100.0, 100.0), 0.0)
    return tf.pow(2.0, exponents)
