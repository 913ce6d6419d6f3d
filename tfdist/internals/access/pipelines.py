"""Looks into the operations of a `tf.data.Dataset`."""

import re

# Their elements depend on more than the data set: on random numbers, or on Python code with a state.
_UNREPEATABLE = re.compile("^(Anonymous)?(Random|Shuffle|Generator|Sampling|.*PyFunc|Multinomial|.*TruncatedNormal)")
_STATELESS = re.compile("^Stateless")


def is_repeatable(dataset):
    """Returns whether a data set is sure to begin with the same elements in every process, and may be read twice."""
    if dataset.options().deterministic is False:
        return False
    names = {name for part in _parts(dataset) for name in _operations(part)}
    return not any(_UNREPEATABLE.match(name) and not _STATELESS.match(name) for name in names)


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
