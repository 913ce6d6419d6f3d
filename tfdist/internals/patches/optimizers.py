"""Makes Keras' optimizers take gradients that are already summed over the replicas."""

import contextvars
import functools

import keras
import tensorflow as tf
from keras.src.backend.tensorflow.optimizer import TFOptimizer
from keras.src.optimizers.base_optimizer import BaseOptimizer

from tfdist.internals.access.collectives import are_same_on_all
from tfdist.internals.access.lineage import Lineage, current_lineage
from tfdist.internals.access.replica import current_rows, held, rows_are, swapped
from tfdist.internals.access.variables import on_this_replica
from tfdist.internals.cpu_kernels import update_kernels

_REDUCED: contextvars.ContextVar = contextvars.ContextVar("this step has reduced gradients by hand", default=False)
_ALONE: contextvars.ContextVar = contextvars.ContextVar("this replica updates alone", default=False)
# (variable, value) each.
_assignments = {name: getattr(TFOptimizer, name) for name in ("assign", "assign_add", "assign_sub")}


def gradients_already_reduced():
    """Removes the all-reduce and the branches from Keras' optimizers; enter it around `strategy.run`.

    Keras reduces after it has clipped, so that N replicas clip differently from one device, and it passes no options to
    the collective. tfdist reduces first. Keras decides in a `tf.cond` of the replica whether accumulated gradients are
    applied, and whether averages are written over the weights; no collective can be in such a branch. tfdist decides
    outside. Keras also synchronizes the replicas for each variable that it assigns, each time. With the same gradients
    they compute the same values by themselves, which takes half of the time to trace.
    """
    return swapped(*_on_each_replica(), (BaseOptimizer, "_backend_apply_gradients", _apply_without_branches))


def note_reduction():
    """Remembers in this replica's step that it has reduced gradients, which are not to be summed again."""
    _sums_are_not_summed_again()
    # Each replica runs a step in a thread of its own, which ends with it.
    _REDUCED.set(True)


@functools.cache
def _sums_are_not_summed_again():
    """Makes Keras' optimizers take gradients that are sums as they are, for the rest of the process."""
    of_keras = TFOptimizer._all_reduce_sum_gradients

    def all_reduce_sum_gradients(self, grads_and_vars):
        pairs = list(grads_and_vars)
        gradients = [gradient for gradient, _ in pairs if gradient is not None]
        return pairs if are_sums(gradients) else of_keras(self, pairs)

    TFOptimizer._all_reduce_sum_gradients = all_reduce_sum_gradients


def are_known_sums(gradients):
    """Returns whether gradients are sums, as `are_sums`; False in a process that has not called `reduce_gradients`."""
    return bool(_sums_are_not_summed_again.cache_info().currsize) and are_sums(gradients)


def are_sums(gradients):
    """Returns whether gradients were computed from sums over the replicas alone; in replica context.

    Without a graph that is seen from the numbers, if this step has reduced some: they are the same on all replicas.
    """
    if not gradients:
        return False
    if not tf.executing_eagerly():
        lineage = current_lineage() or Lineage()
        return all(map(lineage.is_sum, gradients))
    return _REDUCED.get() and are_same_on_all(list(map(tf.convert_to_tensor, gradients)))


def replicas_can_update_alone():
    """Makes `apply_alike` work in replica context; enter it around `strategy.run`."""
    replacements = (
        *_on_each_replica(),
        (TFOptimizer, "_backend_increment_gradient_accumulators", _increment_accumulators),
        (TFOptimizer, "_overwrite_model_variables_with_average_value", _overwrite_with_averages),
        (keras.optimizers.LossScaleOptimizer, "_tf_apply", keras.optimizers.LossScaleOptimizer._common_apply),
    )
    return swapped(*((owner, name, _if_alone(getattr(owner, name), ours)) for owner, name, ours in replacements))


def _if_alone(original, replacement):
    def chosen(self, *arguments, **options):
        return (replacement if _ALONE.get() else original)(self, *arguments, **options)

    return chosen


def apply_alike(optimizer, gradients, variables):
    """Updates this replica by gradients that are the same on all of them, without a collective; in replica context.

    All that Keras' `apply` does may be in a branch then, and its own branches need no care.
    """
    with rows_are(None), held(_ALONE, True):
        optimizer.apply(gradients, variables)


def _on_each_replica():
    return (
        (TFOptimizer, "_backend_update_step", _update_step),
        (TFOptimizer, "_apply_weight_decay", _apply_weight_decay),
        *((TFOptimizer, name, _on_this_replica(assign)) for name, assign in _assignments.items()),
        (keras.Variable, "_direct_assign", _direct_assign),
        *update_kernels.replacements(),
    )


def _increment_accumulators(self, grads, acc_grads):
    for gradient, accumulator in zip(grads, acc_grads, strict=True):
        on_this_replica(accumulator).assign_add(tf.convert_to_tensor(gradient))


def _overwrite_with_averages(self, trainable_variables):
    for variable, average in zip(trainable_variables, self._model_variables_moving_average, strict=True):
        on_this_replica(variable).assign(on_this_replica(average))


def _apply_without_branches(self, grads, trainable_variables):
    grads = self._clip_gradients(grads)
    self._apply_weight_decay(trainable_variables)
    self._backend_update_step(grads, trainable_variables, self.learning_rate)
    if self.use_ema:
        self._update_model_variables_moving_average(self._trainable_variables)


def _update_step(self, grads, trainable_variables, learning_rate):
    for gradient, variable in zip(grads, trainable_variables, strict=True):
        self.update_step(gradient, on_this_replica(variable), learning_rate)


def _apply_weight_decay(self, variables):
    if self.weight_decay is None:
        return
    for variable in filter(self._use_weight_decay, variables):
        here = on_this_replica(variable)
        rate, decay = tf.cast(self.learning_rate, here.dtype), tf.cast(self.weight_decay, here.dtype)
        here.assign_sub(here * decay * rate)


def _on_this_replica(assign):
    return lambda self, variable, value: assign(self, on_this_replica(variable), value)


def _direct_assign(self, value):
    here = on_this_replica(self)
    here.assign(tf.cast(value, here.dtype))


def apply_is(replacement):
    """Makes `optimizer.apply` and `apply_gradients` call `replacement(optimizer, gradients, variables)` instead.

    Enter it around a `train_step` of the user's own, which calls them in replica context.
    """

    def replaced(kind, variables_of):
        apply = kind.apply

        def chosen(self, grads, trainable_variables=None):
            # One that is not built has no variables of its own yet.
            variables = trainable_variables or (variables_of(self) if self.built else [])
            (apply if current_rows() is None else replacement)(self, grads, variables)

        return kind, "apply", chosen

    return swapped(
        replaced(BaseOptimizer, lambda optimizer: optimizer._trainable_variables),
        replaced(keras.optimizers.LossScaleOptimizer, lambda optimizer: optimizer.inner_optimizer._trainable_variables),
    )


def update_is_due(optimizer):
    """Returns whether this step applies the accumulated gradients: a tensor."""
    return (optimizer._iterations.value + 1) % optimizer.gradient_accumulation_steps == 0


def overwrite_is_due(optimizer):
    """Returns whether this step ends with the averages written over the weights: a tensor; ask before the update."""
    return (tf.convert_to_tensor(optimizer.iterations) + 1) % optimizer.ema_overwrite_frequency == 0


def accumulation_steps(optimizer):
    """Returns the number of steps over which an optimizer, or the one that it wraps, accumulates gradients, or None."""
    return getattr(getattr(optimizer, "inner_optimizer", optimizer), "gradient_accumulation_steps", None)


def is_loss_scaling(optimizer):
    """Returns whether an optimizer is a `LossScaleOptimizer`."""
    return isinstance(optimizer, keras.optimizers.LossScaleOptimizer)


def accumulators_of(optimizer, variables):
    """Returns the `tf.Variable` in which an optimizer accumulates each variable's gradients."""
    return [optimizer._accumulated_gradients[optimizer._get_variable_index(variable)].value for variable in variables]


def pending_accumulators(optimizer):
    """Returns the `tf.Variable`s of gradients that wait for their update; none between updates, when all are zero."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    steps = accumulation_steps(optimizer)
    if not steps or int(inner._iterations.numpy()) % steps == 0:
        return []
    return [accumulator.value for accumulator in inner._accumulated_gradients]


def end_step_without_update(optimizer, variables):
    """Does what Keras does in a step that only accumulates: moving averages, constraints, the counter."""
    if optimizer.use_ema:
        optimizer._update_model_variables_moving_average(optimizer._trainable_variables)
    apply_constraints(variables)
    optimizer._iterations.assign_add(1)


def overwrite_with_averages(optimizer):
    """Writes the moving averages over the weights; call it in replica context."""
    _overwrite_with_averages(optimizer, optimizer._trainable_variables)


def apply_constraints(variables):
    """Applies each variable's constraint; call it in replica context."""
    for variable in variables:
        if getattr(variable, "constraint", None) is not None:
            variable.assign(variable.constraint(variable))


def unscale(optimizer, gradients):
    """Divides gradients by the dynamic loss scale."""
    return [None if gradient is None else gradient / optimizer.dynamic_scale for gradient in gradients]


def count_finite_step(optimizer):
    """Counts a step with finite gradients, and doubles the loss scale when that is due; where `updates.update` is."""

    def double():
        optimizer.step_counter.assign(0)
        optimizer.dynamic_scale.assign(optimizer.dynamic_scale * 2.0)

    def count():
        optimizer.step_counter.assign_add(1)

    tf.cond(optimizer.step_counter.value == optimizer.dynamic_growth_steps - 1, double, count)


def skip_step(optimizer):
    """Halves the loss scale after a step whose gradients were not finite; where `updates.update` is."""
    optimizer._stateful_handle_non_finite_grads()
