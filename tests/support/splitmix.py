"""SplitMix64 in Python's integers and NumPy: the oracle of `tfdist.ops.hashing`."""

import numpy as np

MASK = 2**64 - 1
SEEDS = np.array([[7, 0], [7, 1], [2**32 + 7, 0], [0, 0], [3, 99]], np.int64)


def splitmix(*words):
    """Computes SplitMix64 with Python's integers."""
    state = 0
    for word in words:
        state = (state + word + 0x9E3779B97F4A7C15) & MASK
        state = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & MASK
        state = ((state ^ state >> 27) * 0x94D049BB133111EB) & MASK
        state ^= state >> 31
    return state


def numpy_uniforms(count, stream):
    draws = range(stream * 2**32, stream * 2**32 + count)
    bits = [[splitmix(*seeds, draw) for draw in draws] for seeds in SEEDS.tolist()]
    return (np.array(bits, np.uint64) >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
