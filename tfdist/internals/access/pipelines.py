"""Reads how a `tf.data` pipeline shuffles."""

from typing import NamedTuple

import tensorflow as tf

_SHUFFLE, _CACHE, _REPEAT = "_ShuffleDataset", "CacheDataset", "_RepeatDataset"


class Shuffles(NamedTuple):
    """How a pipeline shuffles.

    Attributes:
        anew: whether each iterator has an order of its own.
        cached: whether an order is kept in a cache, and so is that of the first iterator.
        repeated: whether one iterator goes through several orders.
        unseeded: whether an order cannot be had again, because no seed was given.
    """

    anew: bool
    cached: bool
    repeated: bool
    unseeded: bool


def shuffles_of(dataset: tf.data.Dataset) -> Shuffles:
    """Returns the `Shuffles` of a pipeline, without those within its functions."""
    anew = cached = repeated = unseeded = False
    waiting = [(dataset, False, False)]
    while waiting:
        part, in_cache, in_repeat = waiting.pop()
        kind = type(part).__name__
        if kind == _SHUFFLE:
            anew |= part._reshuffle_each_iteration and not in_cache
            cached |= in_cache
            repeated |= in_repeat
            unseeded |= not (int(part._seed) or int(part._seed2))
        inside = in_cache or kind == _CACHE, in_repeat or kind == _REPEAT
        waiting += [(each, *inside) for each in part._inputs()]
    return Shuffles(anew, cached, repeated, unseeded)
