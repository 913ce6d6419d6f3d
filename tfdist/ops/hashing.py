"""Computes random numbers from seeds: the same on every replica, device and version."""

import tensorflow as tf

# SplitMix64: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
_STEP, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def mix(*words: tf.Tensor | int) -> tf.Tensor:
    """Hashes int64 tensors, broadcast together, to uint64; all bits depend on all words."""
    state = tf.constant(0, tf.uint64)
    for word in words:
        state += tf.bitcast(tf.convert_to_tensor(word, tf.int64), tf.uint64)
        state = _scramble(state + tf.constant(_STEP, tf.uint64))
    return state


def uniforms(seeds: tf.Tensor, count: int | tf.Tensor, *, stream: int) -> tf.Tensor:
    """Draws `count` numbers for each row.

    Args:
        seeds: int64 (B, 2), as `Plan.row_seeds` returns them.
        count: numbers per row.
        stream: a whole number; two uses of the same seeds need two streams.

    Returns:
        float32 (B, count) in [0, 1).
    """
    draws = stream * 2**32 + tf.range(count, dtype=tf.int64)
    bits = mix(seeds[:, :1], seeds[:, 1:], draws)
    return tf.cast(_shift(bits, 40), tf.float32) * 2.0**-24


def integers(seeds: tf.Tensor, limit: int, *, stream: int) -> tf.Tensor:
    """Draws one whole number in 0..limit-1 for each row: int32 (B,)."""
    return tf.cast(uniforms(seeds, 1, stream=stream)[:, 0] * limit, tf.int32)


def _scramble(state: tf.Tensor) -> tf.Tensor:
    state = tf.bitwise.bitwise_xor(state, _shift(state, 30)) * tf.constant(_FIRST, tf.uint64)
    state = tf.bitwise.bitwise_xor(state, _shift(state, 27)) * tf.constant(_SECOND, tf.uint64)
    return tf.bitwise.bitwise_xor(state, _shift(state, 31))


def _shift(state: tf.Tensor, bits: int) -> tf.Tensor:
    return tf.bitwise.right_shift(state, tf.constant(bits, tf.uint64))
