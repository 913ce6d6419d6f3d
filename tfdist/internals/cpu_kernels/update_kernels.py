"""Computes the updates of SGD, Adam and AdamW with TensorFlow's kernels on CPUs, in one pass over the weights.

Keras 3 composes an update of 2 (SGD) to 12 operations (Adam), each of which reads and writes as many numbers as the
weight has; for dense layers that is a large part of a step. Keras' own code still handles sparse gradients, half
precision and the user's own optimizers.

Delete this when Keras' optimizers on TensorFlow update each weight with one kernel.
"""

import keras
import tensorflow as tf

from tfdist.internals.access import runtime

_sgd_step, _adam_step = keras.optimizers.SGD.update_step, keras.optimizers.Adam.update_step


def replacements():
    """Returns the replacements for `swapped` with which Keras' optimizers update by the kernels."""
    return (
        (keras.optimizers.SGD, "update_step", sgd_step),
        (keras.optimizers.Adam, "update_step", adam_step),
    )


def sgd_step(self, gradient, variable, learning_rate):
    """Stands in for `keras.optimizers.SGD.update_step`."""
    if type(self) is not keras.optimizers.SGD or not _fits(gradient, variable):
        _sgd_step(self, gradient, variable, learning_rate)
        return
    gradient, rate, momentum = _as_numbers_of(variable, gradient, learning_rate, self.momentum)
    if self.momentum == 0:
        tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=rate, delta=gradient)
        return
    tf.raw_ops.ResourceApplyKerasMomentum(
        var=variable.handle,
        accum=_slot(self, self.momentums, variable),
        lr=rate,
        grad=gradient,
        momentum=momentum,
        use_nesterov=self.nesterov,
    )


def adam_step(self, gradient, variable, learning_rate):
    """Stands in for `keras.optimizers.Adam.update_step`, which is AdamW's too."""
    known = type(self) in (keras.optimizers.Adam, keras.optimizers.AdamW) and not self.amsgrad
    if not known or not _fits(gradient, variable):
        _adam_step(self, gradient, variable, learning_rate)
        return
    numbers = (gradient, learning_rate, self.iterations + 1, self.beta_1, self.beta_2)
    # As in Keras, only the powers are of numbers that `cast` has rounded to float32.
    gradient, rate, step, beta_1, beta_2 = _as_numbers_of(variable, *numbers)
    exact = [tf.constant(value, variable.dtype) for value in (self.beta_1, self.beta_2, self.epsilon)]
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=_slot(self, self._momentums, variable),
        v=_slot(self, self._velocities, variable),
        beta1_power=tf.pow(beta_1, step),
        beta2_power=tf.pow(beta_2, step),
        lr=rate,
        beta1=exact[0],
        beta2=exact[1],
        epsilon=exact[2],
        grad=gradient,
    )


def _fits(gradient, variable):
    known = isinstance(gradient, tf.Tensor) and variable.dtype in (tf.float32, tf.float64)
    return known and runtime.is_on_cpus(tf.distribute.get_strategy())


def _as_numbers_of(variable, *values):
    return [tf.convert_to_tensor(keras.ops.cast(value, variable.dtype)) for value in values]


def _slot(optimizer, slots, variable):
    """Returns the handle of the variable that an optimizer keeps for a weight: of several replicas, this one's."""
    return slots[optimizer._get_variable_index(variable)].value.handle
