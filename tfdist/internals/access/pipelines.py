"""Looks into the operations of a `tf.data.Dataset`: how it shuffles, and whether it can be read again."""

import re
from typing import NamedTuple

import tensorflow as tf

_SHUFFLE, _CACHE, _REPEAT = "_ShuffleDataset", "CacheDataset", "_RepeatDataset"
# Their elements depend on more than the data set: on random numbers, or on Python code with a state.
_UNREPEATABLE = re.compile("^(Anonymous)?(Random|Shuffle|Generator|Sampling|.*PyFunc|Multinomial|.*TruncatedNormal)")
_STATELESS = re.compile("^Stateless")
# Data sets of `tf.data` whose iterators leave nothing behind.
_PURE = {
    *("TensorSliceDataset", "TensorDataset", "RangeDataset", "BatchDataset", "ParallelBatchDataset", "RepeatDataset"),
    *("PrefetchDataset", "TakeDataset", "SkipDataset", "ZipDataset", "ConcatenateDataset", "OptionsDataset"),
}


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


def is_repeatable(dataset):
    """Returns whether a data set is sure to begin with the same elements in every process, and may be read twice."""
    if dataset.options().deterministic is False:
        return False
    names = {name for part in _parts(dataset) for name in _operations(part)}
    return not any(_UNREPEATABLE.match(name) and not _STATELESS.match(name) for name in names)


def is_pure(dataset):
    """Returns whether reading a data set once more changes nothing, unlike with a shuffle, a cache or a generator."""
    kind = type(dataset).__name__.lstrip("_")
    if kind in ("MapDataset", "ParallelMapDataset"):
        graph = dataset._map_func.function.graph
        if any(operation.op_def.is_stateful for operation in graph.get_operations()):
            return False
    elif kind not in _PURE:
        return False
    return all(map(is_pure, dataset._inputs()))


def _parts(dataset):
    yield dataset
    for part in dataset._inputs():
        yield from _parts(part)


def _operations(dataset):
    """Yields the names of a data set's own operation and of those in its functions."""
    yield type(dataset).__name__.lstrip("_")
    for function in dataset._functions():
        graph = function.function.graph.as_graph_def()
        for nodes in (graph.node, *(inner.node_def for inner in graph.library.function)):
            yield from (node.op for node in nodes)
