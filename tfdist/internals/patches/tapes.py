"""Sums gradients over the replicas where a tape gives them, inside a user's own `train_step`.

A user may do anything with gradients: clip them, project them, move the weights along them and come back. One device
does so with the gradient of all rows, so each replica needs the sum before the user's code sees it. The sum is recorded
by outer tapes, so gradients of gradients are exact too.
"""

import contextvars
import functools
import inspect
import itertools

import keras
import tensorflow as tf
from tensorflow.python.distribute import values
from tensorflow.python.eager import record
from tensorflow.python.eager.polymorphic_function.polymorphic_function import Function
from tensorflow.python.framework import ops
from tensorflow.python.ops import cond_v2, custom_gradient
from tensorflow.python.ops.parallel_for import control_flow_ops as parallel_for

from tfdist.internals.access.collectives import sum_over_replicas
from tfdist.internals.access.dependence import note_way
from tfdist.internals.access.lineage import SUM, as_mean, current_lineage, say_doubts
from tfdist.internals.access.replica import current_rows, held, swapped
from tfdist.internals.access.tracing import converted
from tfdist.internals.access.variables import is_per_replica, on_this_replica
from tfdist.process.errors import UsageError

_STEP: contextvars.ContextVar = contextvars.ContextVar("the own step that this replica traces", default=None)
_gradient, _gradients = tf.GradientTape.gradient, tf.gradients
_call_of_function = Function.__call__
_cond, _case = cond_v2.cond_v2, cond_v2.indexed_case
_with_own_gradient = custom_gradient._graph_mode_decorator
_parallel = parallel_for._pfor_impl
_update = values._on_write_update_replica
_PREDICATES: contextvars.ContextVar = contextvars.ContextVar("what chooses the branches that are traced", default=())
# Their `tf.function`s are traced as they are: the vectorization of loops depends on it.
_LIBRARIES = ("tensorflow.", "keras.", "tfdist.")


class OwnStep:
    """A user's own `train_step` while it is traced on one replica.

    Args:
        reduce: a function (number of the sum in this step, gradients, variables) → the gradients' sums over the
            replicas, called in replica context.
        say: a function (line) that logs a line once.

    Attributes:
        say: as above.
        numbers: an iterator that numbers the sums of the step.
    """

    def __init__(self, reduce, say):
        self._reduce = reduce
        self.say = say
        self.numbers = itertools.count()
        self._graph = None if tf.executing_eagerly() else ops.get_default_graph()

    def reduce(self, gradients, variables):
        """Returns the sums of gradients over the replicas."""
        return self._reduce(next(self.numbers), gradients, variables)

    @property
    def lineage(self):
        """The `Lineage` of the step's tensors."""
        return current_lineage()

    def is_here(self):
        """Returns whether the code that runs is in the step itself, not in a loop, a branch or a function in it.

        Only there do all replicas meet. A loop over a replica's rows has gradients of its own, which stay local.
        """
        return tf.executing_eagerly() if self._graph is None else ops.get_default_graph() is self._graph

    def local_predicate(self):
        """Returns what chooses a branch that is being traced and may differ between replicas, or None."""
        return next((each for each in _PREDICATES.get() if not self.lineage.is_alike(each)), None)


def own_step_is(step):
    """Sets the `OwnStep` whose tapes give sums over the replicas, while the context is entered in replica context."""
    return held(_STEP, step)


def current_own_step():
    """Returns the `OwnStep` of the replica that is being traced; None in other steps, and within a backward pass."""
    return _STEP.get()


def tapes_sum_over_replicas():
    """Makes the tapes of a user's own `train_step` give sums over the replicas; enter it around `strategy.run`."""
    return swapped(
        (tf.GradientTape, "gradient", gradient),
        (tf, "gradients", _symbolic),
        (Function, "__call__", _call),
        (parallel_for, "_pfor_impl", _in_parallel),
        (values, "_on_write_update_replica", _update_replica),
        (cond_v2, "cond_v2", _noting_predicate(_cond)),
        (cond_v2, "indexed_case", _noting_predicate(_case)),
        (custom_gradient, "_graph_mode_decorator", _own_gradient),
    )


@functools.wraps(_gradient)
def gradient(self, target, sources, output_gradients=None, unconnected_gradients=tf.UnconnectedGradients.NONE):
    """Stands in for `tf.GradientTape.gradient`.

    A replica's part of the gradient is weighted before the way back, because layers that meet the other replicas have
    summed by the time it ends.
    """
    step = _STEP.get()
    given = target, sources, output_gradients, unconnected_gradients
    if step is None:
        return _gradient(self, *given)
    flat = tf.nest.flatten(sources)
    targets = tf.nest.flatten(target)
    if not step.is_here() or not all(isinstance(each, tf.Tensor) for each in targets):
        return _gradient(self, *given)
    upstream = [None] * len(targets) if output_gradients is None else tf.nest.flatten(output_gradients)
    weighted = [pair for each, above in zip(targets, upstream, strict=True) for pair in _weighted(step, each, above)]
    # A tape takes a target once, and a term may come twice.
    together = {}
    for each, above in weighted:
        together[id(each)] = each, above + together[id(each)][1] if id(each) in together else above
    targets, upstream = zip(*together.values(), strict=True)
    # A part that is computed twice to save memory has a tape of its own in its backward pass.
    with held(_STEP, None):
        parts = tf.nest.flatten(_gradient(self, list(targets), flat, list(upstream), unconnected_gradients))
    for source, part in zip(flat, parts, strict=True):
        # The way back leads through layers, too. Whether the targets combine rows has been looked at.
        note_way([part], [source])
    places = [
        place
        for place, (source, part) in enumerate(zip(flat, parts, strict=True))
        if part is not None and (_is_variable(source) or step.lineage.is_alike(source))
    ]
    sums = step.reduce([_recordable(parts[place]) for place in places], [flat[place] for place in places])
    for place, total in zip(places, sums, strict=True):
        parts[place] = total
    return tf.nest.pack_sequence_as(sources, parts)


def _symbolic(*arguments, **options):
    """Stands in for `tf.gradients`, which stays local."""
    step = _STEP.get()
    if step is not None:
        step.say(
            "train_step calls tf.gradients, which gives gradients of this replica's rows alone. Use tf.GradientTape, "
            "whose gradients are those of all rows."
        )
    return _gradients(*arguments, **options)


def _is_variable(source):
    return isinstance(source, tf.Variable | keras.Variable)


def _weighted(step, target, above):
    """Yields (tensor, what flows back into it) for the terms of a target, weighted by this replica's rows.

    That is its share of the rows for a mean, and the whole for what rows add up to.
    """
    rows = current_rows()
    whole = tf.ones_like(target) if above is None else tf.convert_to_tensor(above)
    if not target.dtype.is_floating:
        yield target, whole
        return
    if step.lineage.has_rows(target):
        step.lineage.say_doubt("train_step differentiates", target)
        yield target, whole * rows.present(target.dtype)
        return
    for term, factor in step.lineage.terms(target):
        step.lineage.say_doubt("train_step differentiates", term)
        is_sum = step.lineage.kind(term) == SUM
        yield term, whole * factor * (rows.present(term.dtype) if is_sum else rows.share(term.dtype))


def _recordable(part):
    """Returns a gradient whose sum outer tapes can follow: the sum of sparse ones has no gradient in TensorFlow."""
    return tf.convert_to_tensor(part) if isinstance(part, tf.IndexedSlices) and record.could_possibly_record() else part


def _in_parallel(*arguments, **options):
    """Stands in for the vectorization of a loop, whose body belongs to one turn."""
    with held(_STEP, None):
        return _parallel(*arguments, **options)


def _update_replica(variable, update, value, **options):
    """Stands in for the update of a variable from replica context, where TensorFlow makes the replicas meet.

    A value that is the same on all replicas needs no meeting, so that it may be assigned in a branch. Others come here
    for variables of optimizers, such as a learning rate: they are taken over the rows of all replicas.
    """
    step = _STEP.get()
    if step is None or is_per_replica(variable):
        return _update(variable, update, value, **options)
    if not step.lineage.is_alike(value):
        value = tf.convert_to_tensor(value)
        name = variable.name.partition(":")[0]
        if not step.is_here():
            raise UsageError(
                f"train_step assigns to {name!r} in a branch, a loop or a function compiled by TensorFlow, with a "
                "value of this replica's rows alone. Compute it outside, by tfdist.global_mean or tfdist.global_sum, "
                "which give the same on all replicas, or assign it outside."
            )
        if not value.dtype.is_floating:
            return _update(variable, update, value, **options)
        rows = current_rows()
        mean = as_mean(value, rows, f"train_step assigns to {name!r} the value")
        (value,) = sum_over_replicas([tf.math.multiply_no_nan(mean, rows.share(mean.dtype))], "train_step")
    return update(on_this_replica(variable), value, **options)


def _call(self, *arguments, **options):
    """Stands in for the call of a `tf.function`: the user's own is traced into the step, where the replicas meet."""
    step = _STEP.get()
    if step is None or not step.is_here() or not _is_inlined(self):
        return _call_of_function(self, *arguments, **options)
    function = self.python_function
    return (converted(function) if self._autograph else function)(*arguments, **options)


def _noting_predicate(branching):
    @functools.wraps(branching)
    def call(predicate, *arguments, **options):
        with held(_PREDICATES, (*_PREDICATES.get(), tf.convert_to_tensor(predicate))):
            return branching(predicate, *arguments, **options)

    return call


def _own_gradient(function, arguments, options):
    """Stands in for what `tf.custom_gradient` does in a graph: looks at what a user's backward pass returns."""
    lineage = current_lineage()
    if lineage is None or _is_of_library(function):
        return _with_own_gradient(function, arguments, options)

    @functools.wraps(function)
    def call(*inputs):
        result, gradient_of = function(*inputs)

        @functools.wraps(gradient_of)
        def looked_at(*upstream, **variables):
            # It has come back through layers.
            note_way(upstream, tf.nest.flatten(result))
            parts = gradient_of(*upstream, **variables)
            say_doubts("tf.custom_gradient returns", parts)
            return parts

        # TensorFlow looks whether it takes variables.
        looked_at.__signature__ = inspect.signature(gradient_of)
        return result, looked_at

    return _with_own_gradient(call, arguments, options)


def _is_inlined(function):
    return not _is_of_library(function.python_function)


def _is_of_library(function):
    return str(getattr(inspect.unwrap(function), "__module__", "")).startswith(_LIBRARIES)
