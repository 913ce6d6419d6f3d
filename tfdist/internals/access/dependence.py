"""Finds out from a traced graph whether a value is the same on every replica."""

import re
import threading

import tensorflow as tf
from tensorflow.python.framework import ops

# The names of scopes: a scope costs nothing, and survives in the names of the operations made in it.
_ALIKE, _DIFFERING = "tfdist_alike", "tfdist_differing"
_MADE_IN = re.compile(rf"(?:^|/)({_ALIKE}|{_DIFFERING})(?:_\d+)?/[^/]*$")
# Operations with an inner state that give every replica the same.
_READS = {"ReadVariableOp", "VarHandleOp", "VarIsInitializedOp", "Const"}


def alike():
    """Returns a context: what is made in it, such as a sum over the replicas, is the same on every replica."""
    return tf.name_scope(_ALIKE)


def differing():
    """Returns a context: what is made in it, such as a seed, differs between replicas."""
    return tf.name_scope(_DIFFERING)


def differs_by_replica(tensor, known_alike):
    """Returns whether a tensor may differ between the replicas that compute it.

    It may if a batch leads to it other than through a sum over the replicas. The arguments of traced functions, the
    elements of iterators and random numbers count as such. The values of variables do not, because they are alike
    between steps.

    Args:
        tensor: a `tf.Tensor`.
        known_alike: a set of what earlier calls have found to be alike in the same graphs, to which this call adds.
    """
    if isinstance(tensor, ops.EagerTensor):
        return True
    waiting, seen = [tensor], set()
    while waiting:
        item = waiting.pop()
        if isinstance(item, ops.EagerTensor) or item.dtype == tf.resource:
            continue
        operation = item.op
        key = id(item.graph), operation.name
        if key in seen or key in known_alike or operation.type in _READS:
            continue
        seen.add(key)
        made_in = _MADE_IN.search(operation.name)
        if made_in and made_in[1] == _DIFFERING:
            return True
        if made_in:
            continue
        inputs = list(operation.inputs)
        if operation.type == "Placeholder":
            inputs = [outer for outer, inner in getattr(item.graph, "captures", ()) if inner is item]
        if not inputs or _has_a_state_of_its_own(operation, inputs):
            if not inputs and not operation.op_def.is_stateful and operation.type != "Placeholder":
                continue
            return True
        waiting += inputs
    known_alike |= seen
    return False


def _has_a_state_of_its_own(operation, inputs):
    """Returns whether an operation draws or reads what its inputs do not hold: random numbers, iterators, Python."""
    if not operation.op_def.is_stateful or _calls_functions(operation):
        return False
    return operation.type.startswith("Random") or "PyFunc" in operation.type or not _has_data(inputs)


def _calls_functions(operation):
    return any(attribute.type in ("func", "list(func)") for attribute in operation.op_def.attr)


def _has_data(inputs):
    return any(isinstance(item, ops.EagerTensor) or item.dtype not in (tf.resource, tf.variant) for item in inputs)


def is_in_inner_graph():
    """Returns whether a branch, a loop or a function of the user is being traced, in which no collective can be."""
    graph = getattr(threading.current_thread(), "graph", None)
    return graph is not None and graph is not ops.get_default_graph()
