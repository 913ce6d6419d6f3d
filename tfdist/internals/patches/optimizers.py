"""Makes Keras' optimizers take gradients that are already summed over the replicas."""

import keras
import tensorflow as tf
from keras.src.backend.tensorflow.optimizer import TFOptimizer
from keras.src.optimizers.base_optimizer import BaseOptimizer

from tfdist.internals.access.replica import current_rows, swapped
from tfdist.internals.cpu_kernels import update_kernels

_apply = BaseOptimizer.apply
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
    return swapped(
        (TFOptimizer, "_backend_update_step", _update_step),
        (TFOptimizer, "_apply_weight_decay", _apply_weight_decay),
        *((TFOptimizer, name, _on_this_replica(assign)) for name, assign in _assignments.items()),
        (keras.Variable, "_direct_assign", _direct_assign),
        (BaseOptimizer, "_backend_apply_gradients", _apply_without_branches),
        *update_kernels.replacements(),
    )


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


def on_this_replica(variable):
    """Returns the `tf.Variable` of the replica whose step is traced; elsewhere, and on TPUs, that of all replicas."""
    value = variable.value if isinstance(variable, keras.Variable) else variable
    context = tf.distribute.get_replica_context()
    # A TPU's replicas are traced once for all.
    if context is None or isinstance(context.strategy, tf.distribute.TPUStrategy):
        return value
    return value._get() if isinstance(value, tf.distribute.DistributedValues) else value


def apply_is(replacement):
    """Makes `optimizer.apply` and `apply_gradients` call `replacement(optimizer, gradients, variables)` instead.

    Enter it around a `train_step` of the user's own, which calls them in replica context.
    """

    def apply(self, grads, trainable_variables=None):
        if current_rows() is None:
            _apply(self, grads, trainable_variables)
        else:
            replacement(self, grads, trainable_variables or self._trainable_variables)

    def apply_scaled(self, grads, trainable_variables=None):
        apply(self, grads, trainable_variables or self.inner_optimizer._trainable_variables)

    return swapped((BaseOptimizer, "apply", apply), (keras.optimizers.LossScaleOptimizer, "apply", apply_scaled))


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
    """Writes the moving averages over the weights; call it in cross-replica context."""
    optimizer._overwrite_model_variables_with_average_value(optimizer._trainable_variables)


def apply_constraints(variables):
    """Applies each variable's constraint; call it in replica context."""
    for variable in variables:
        if getattr(variable, "constraint", None) is not None:
            variable.assign(variable.constraint(variable))


def unscale(optimizer, gradients):
    """Divides gradients by the dynamic loss scale."""
    return [None if gradient is None else gradient / optimizer.dynamic_scale for gradient in gradients]


def count_finite_step(optimizer):
    """Counts a step with finite gradients, and doubles the loss scale when that is due; in cross-replica context."""

    def double():
        optimizer.step_counter.assign(0)
        optimizer.dynamic_scale.assign(optimizer.dynamic_scale * 2.0)

    def count():
        optimizer.step_counter.assign_add(1)

    tf.cond(optimizer.step_counter.value == optimizer.dynamic_growth_steps - 1, double, count)


def skip_step(optimizer):
    """Halves the loss scale after a step whose gradients were not finite; in cross-replica context."""
    optimizer._stateful_handle_non_finite_grads()
