"""Calls layers for a trial: their variables stay as they are, and what they would assign is noted."""

import contextlib
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras.src.backend import get_keras_mask as keras_mask
from keras.src.backend import set_keras_mask
from keras.src.backend.common import global_state


class Assignment(NamedTuple):
    """What was assigned: the `keras.Variable`, its value before, and the one after."""

    variable: keras.Variable
    before: tf.Tensor
    value: tf.Tensor


class NotingScope(keras.StatelessScope):
    """Keeps what is assigned within it from the variables, and notes it.

    Args:
        values: id of a `keras.Variable` → the value that it begins with; the others begin with their own.
        instead: id of a `keras.Variable` → a deque of the values that it gets in place of those assigned to it.

    Attributes:
        assignments: list of `Assignment`, with the values that were to be assigned.
        values: as above, as they are now.
    """

    def __init__(self, values=None, instead=None):
        super().__init__()
        self.state_mapping = dict(values or {})
        self.assignments = []
        self._instead = instead or {}

    @property
    def values(self):
        return self.state_mapping

    def add_update(self, update):
        """Stands in for Keras' method that each assignment calls."""
        variable, value = update
        value = tf.convert_to_tensor(value)
        before = self.state_mapping.get(id(variable))
        before = tf.convert_to_tensor(variable.value) if before is None else before
        self.assignments.append(Assignment(variable, tf.cast(before, value.dtype), value))
        left = self._instead.get(id(variable))
        self.set(variable, left.popleft() if left else value)

    def set(self, variable, value):
        """Sets the value of a variable within the scope, without a note."""
        super().add_update((variable, value))


@contextlib.contextmanager
def called_in_training(layer, training):
    """Makes the calls of a layer within it those of a model that is called with this `training`."""
    before = global_state.get_global_attribute("current_call_ctx")
    global_state.set_global_attribute("current_call_ctx", None)
    context = layer._get_call_context()
    # Before Keras 3.12 the only such argument was an attribute.
    context.training = training
    try:
        yield
    finally:
        global_state.set_global_attribute("current_call_ctx", before)


def built_with(layer):
    """Returns the shape of the one input that a layer was built with, such as (None, 3); None if that is unknown."""
    shapes = list((getattr(layer, "_build_shapes_dict", None) or {}).values())
    known = len(shapes) == 1 and isinstance(shapes[0], list | tuple) and len(shapes[0]) > 1
    if not known or not all(isinstance(size, int) for size in shapes[0][1:]):
        return None
    return tuple(shapes[0])


def with_mask(cut, value: Any):
    """Returns `cut(value)`, with Keras' mask of the value cut in the same way."""
    part, mask = cut(value), keras_mask(value)
    if mask is not None and part is not value:
        set_keras_mask(part, cut(mask))
    return part
