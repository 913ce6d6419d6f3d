"""What the tensors of one replica's step were computed from, read from the graph that is being traced."""

import threading

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import ops

from tfdist.internals.access import tpu

_SUMS, _DIFFERING, _WAYS = "_tfdist_sums", "_tfdist_differing", "_tfdist_ways"
_COUNTS = frozenset({"Shape", "ShapeN", "Size"})
_DRAWS = ("Random", "Truncated", "Multinomial", "Bernoulli", "Binomial", "Parameterized")
# What they draw depends on the values of their inputs, too.
_DRAWN_FROM = frozenset({"RandomShuffle", "Multinomial"})
_PLAIN = (int, float, np.ndarray, np.generic)


def note_sums(sums):
    """Remembers which tensors are sums over the replicas: in their graph, so that they end with it."""
    _note(_SUMS, sums)


def note_differing(tensors):
    """Remembers which tensors differ between replicas on purpose, such as seeds."""
    _note(_DIFFERING, tensors)


def note_way(outputs, inputs):
    """Remembers which tensors lead to others by what is exact on replicas, so that nothing between needs a look."""
    given = [each for each in inputs if tf.is_symbolic_tensor(each)]
    names = {each.name for each in given}
    for each in outputs:
        # A layer may return what it was given.
        if tf.is_symbolic_tensor(each) and each.name not in names:
            setattr(each.graph, _WAYS, getattr(each.graph, _WAYS, {}) | {each.name: given})


def noted_way(tensor):
    """Returns the tensors that lead to one as `note_way` remembers, or None."""
    return getattr(tensor.graph, _WAYS, {}).get(tensor.name)


def is_noted(tensor):
    """Returns whether a tensor is itself one that `note_sums` remembers."""
    return _has_note(_SUMS, tensor)


def _note(kind, tensors):
    for each in tensors:
        if tf.is_symbolic_tensor(each):
            setattr(each.graph, kind, getattr(each.graph, kind, frozenset()) | {each.name})


def _has_note(kind, tensor):
    return tf.is_symbolic_tensor(tensor) and tensor.name in getattr(tensor.graph, kind, ())


def is_in_inner_graph():
    """Returns whether a branch, a loop or a function of the user is being traced, in which no collective can be."""
    graph = tpu.program_graph() or getattr(threading.current_thread(), "graph", None)
    return graph is not None and graph is not ops.get_default_graph()


class Dependence:
    """Finds out what leads to the tensors of one replica's step.

    Args:
        batch: nested tensors: the replica's rows. None where each argument of the traced function may hold rows.
        counts: tensors that count rows, and differ between replicas.
    """

    def __init__(self, batch=None, counts=()):
        flat = [each for each in tf.nest.flatten(batch, expand_composites=True) if each is not None]
        self._eager = tf.executing_eagerly()
        self._is_strict = batch is None
        self._first = {each.shape[0] for each in flat if each.shape.rank}
        self._batch = {name_of(each) for each in flat if tf.is_symbolic_tensor(each)}
        self._counts = {name_of(each) for each in counts if tf.is_symbolic_tensor(each)}
        self._known_alike = set()
        self._sizes = {}

    def is_alike(self, *tensors):
        """Returns whether tensors are certainly the same on every replica: only sums lead to them from the rows.

        The values of variables are the same between steps. Without a graph nothing is certain but numbers.
        """
        seen = set()
        alike = self.leading_to(*tensors, known=self._known_alike, seen=seen) <= {"sums"}
        self._known_alike |= seen if alike else set()
        return alike

    def is_sum(self, tensor):
        """Returns whether a tensor is that, and a sum does lead to it."""
        return self.leading_to(tensor) == {"sums"}

    def is_drawn(self, *tensors):
        """Returns whether tensors would be the same on every replica but for random numbers."""
        return self.leading_to(*tensors) <= {"sums", "draws"}

    def leading_to(self, *tensors, known=frozenset(), seen=None):
        """Returns what leads to tensors: a set of "rows", "counts" of rows, "draws" of random numbers, and "sums".

        Args:
            *tensors: tensors, numbers or `tf.IndexedSlices`.
            known: names at which the way back ends.
            seen: a set, to which the names on the way are added.
        """
        flat = [[each.values, each.indices] if isinstance(each, tf.IndexedSlices) else [each] for each in tensors]
        left = [part for some in flat for part in some if not isinstance(part, _PLAIN)]
        if not all(isinstance(part, tf.Tensor) for part in left) or (left and self._eager):
            return {"rows"}
        found, seen = set(), set() if seen is None else seen
        while left and "rows" not in found:
            tensor = left.pop()
            if tf.is_symbolic_tensor(tensor) and (name := name_of(tensor)) not in seen and name not in known:
                seen.add(name)
                origin = self._origin(tensor, name)
                found |= origin or set()
                left += [] if origin and tensor.op.type not in _DRAWN_FROM else behind(tensor)
        return found

    def end_of_way(self, tensor):
        """Returns what a tensor is where the way back ends: a set as of `leading_to`, or None where it goes on."""
        origin = self._origin(tensor, name_of(tensor))
        return None if tensor.op.type in _DRAWN_FROM else origin

    def _origin(self, tensor, name):
        """Returns what a tensor is where its inputs need no look: a set, or None."""
        origins = {
            "sums": is_noted(tensor) or self._is_size_of_alike(tensor),
            "rows": name in self._batch,
            "counts": tensor.op.type in _COUNTS or name in self._counts,
            "draws": _has_note(_DIFFERING, tensor) or _draws(tensor.op),
        }
        first = next((origin for origin, holds in origins.items() if holds), None)
        if first is None and (_has_a_state_of_its_own(tensor) or (self._is_strict and _is_given(tensor))):
            first = "rows"
        return first and {first}

    def _is_size_of_alike(self, tensor):
        """Returns whether a tensor is a shape of what is a sum over the replicas, and so the same on all of them."""
        if tensor.op.type not in _COUNTS:
            return False
        name = name_of(tensor)
        if name not in self._sizes:
            self._sizes[name] = all(map(self.is_sum, tensor.op.inputs))
        return self._sizes[name]


def _draws(operation):
    return operation.op_def.is_stateful and operation.type.startswith(_DRAWS)


def _is_given(tensor):
    return tensor.op.type == "Placeholder" and tensor.dtype != tf.resource and _captured(tensor) is None


def _has_a_state_of_its_own(tensor):
    """Returns whether an operation gives what its inputs do not hold, such as an iterator or a Python function."""
    operation = tensor.op
    if not operation.op_def.is_stateful or tensor.dtype == tf.resource or _calls_functions(operation):
        return False
    return not operation.type.endswith("VariableOp") and not _has_data(operation.inputs)


def _calls_functions(operation):
    return any(attribute.type in ("func", "list(func)") for attribute in operation.op_def.attr)


def _has_data(inputs):
    return any(isinstance(item, ops.EagerTensor) or item.dtype not in (tf.resource, tf.variant) for item in inputs)


def name_of(tensor):
    """Returns what tells a tensor of a graph from all others."""
    return id(tensor.graph), tensor.name


def behind(tensor):
    """Returns the inputs of the operation that makes a tensor, or what is outside for what a function captures."""
    outer = _captured(tensor)
    return list(tensor.op.inputs) if outer is None else [outer]


def _captured(tensor):
    """Returns the tensor outside a function or a branch that stands behind one of its placeholders; or None."""
    if tensor.op.type != "Placeholder":
        return None
    return next((outer for outer, inner in getattr(tensor.graph, "captures", ()) if inner is tensor), None)
