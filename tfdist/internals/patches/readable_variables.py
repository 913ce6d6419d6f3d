"""Makes variables of a strategy readable as Python numbers, as those of one device are.

`int(optimizer.iterations)` reads the `tf.Variable` behind a Keras variable, but TensorFlow gives the number methods
only to variables of one device.
"""

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.distribute.values import DistributedVariable

# Not `__bool__`: TensorFlow's own code asks whether such a variable is there by its truth.
_CONVERSIONS = {"__int__": int, "__float__": float, "__complex__": complex}


def install():
    """Adds the methods that are missing; those of a newer TensorFlow or Keras stay.

    They stay for good, so that callbacks, and loops of the user's own before and after `fit`, can use them.
    """
    for name, convert in _CONVERSIONS.items():
        if not hasattr(DistributedVariable, name):
            setattr(DistributedVariable, name, _reader(name, convert))
    for kind in (DistributedVariable, keras.Variable):
        if kind.__format__ is object.__format__:
            kind.__format__ = _format


def _reader(name, convert):
    def read(self):
        # As a variable of one device: within a compiled function, TensorFlow's own error says that there is no number.
        value = self.numpy() if tf.executing_eagerly() else tf.convert_to_tensor(self)
        return convert(value)

    read.__name__ = name
    return read


def _format(self, specification):
    """Formats a scalar as a number where a specification is given, such as `f"{optimizer.learning_rate:.4f}"`."""
    if specification and len(self.shape) == 0:
        return format(np.asarray(self).item(), specification)
    return object.__format__(self, specification)
