"""Random numbers of rows that are the same for a row alone and among others, on every processor.

TensorFlow computes `exp`, `log`, `pow` and `cos` of several numbers at once in another way than of the last few, so
the last bit of a row's number depends on its place in the batch. Values of such functions are therefore picked from a
table, which NumPy computes once.
"""

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfdist.ops import hashing

# Each kind has its own stream of random numbers: otherwise a row's flip and its crop would depend on each other.
FLIP, CROP, RESIZED_CROP, COLOURS, ERASING, MIXUP, CUTMIX = range(11, 18)

# The quantiles of a distribution: float32 (LEVELS,).
Table = npt.NDArray[np.float32]
# Of a table: the quantiles at the middles of so many equal parts of [0, 1).
LEVELS = 2**16


def pick(table: Table, uniforms: tf.Tensor) -> tf.Tensor:
    """Returns the quantiles of a table for uniform numbers in [0, 1): float32 of their shape."""
    return tf.gather(tf.constant(table), tf.cast(uniforms * LEVELS, tf.int32))


def log_uniform(low: float, high: float) -> Table:
    """Returns the table of a number whose logarithm is uniform between those of two bounds."""
    return np.exp(np.log(low) + _middles() * np.log(high / low)).astype(np.float32)


def symmetric_beta(alpha: float) -> Table:
    """Returns the table of a number with the distribution Beta(alpha, alpha).

    The density s**(alpha - 1) * (1 - s)**(alpha - 1) is integrated up to 1/2, where alpha is below 1 over t = s**alpha,
    in which it has no pole; above 1/2, the distribution is its mirror image.
    """
    power = min(alpha, 1.0)
    t = np.linspace(0, 0.5**power, 2**18 + 1)
    s = t ** (1 / power)
    density = s ** (alpha - power) * (1 - s) ** (alpha - 1)
    below = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    half = np.interp(_middles()[: LEVELS // 2], below / below[-1] / 2, t) ** (1 / power)
    return np.concatenate([half, 1 - half[::-1]]).astype(np.float32)


def coins(seeds: tf.Tensor, probability: float, *, stream: int) -> tf.Tensor:
    """Returns which rows something happens to: bool (B,)."""
    return hashing.uniforms(seeds, 1, stream=stream)[:, 0] < probability


def _middles() -> npt.NDArray[np.float64]:
    return (np.arange(LEVELS) + 0.5) / LEVELS
