"""Calls layers for a trial: their variables are left as they are, and what they would assign is noted."""

import contextlib
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras.src.backend import get_keras_mask as keras_mask
from keras.src.backend import set_keras_mask
from keras.src.backend.common import global_state


class Assignment(NamedTuple):
    """What was assigned: the variable, its value before, and the one after."""

    variable: keras.Variable | tf.Variable
    before: tf.Tensor
    value: tf.Tensor


class NotingScope(keras.StatelessScope):
    """Keeps what is assigned within it from the variables, and notes it.

    A `tf.Variable` is written to, and has its own value again in the next scope, or when `kept_apart` ends.

    Args:
        values: id of a variable → the value that it begins with; the others begin with their own.
        instead: id of a variable → a deque of the values that it gets in place of those assigned to it.
        plain: what `kept_apart` yielded.

    Attributes:
        assignments: list of `Assignment`, with the values that were to be assigned.
        values: as above, as they are now.
    """

    def __init__(self, values, instead, plain):
        super().__init__()
        self.state_mapping = dict(values)
        self.assignments = []
        self._instead = instead
        for key, (variable, original) in plain.items():
            _write(variable, values.get(key, original))

    @property
    def values(self):
        return self.state_mapping

    def add_update(self, update):
        """Stands in for Keras' method that each assignment calls."""
        variable, value = update
        before = self.state_mapping.get(id(variable))
        self._note(variable, variable.value if before is None else before, value)

    def assign(self, method, variable, value):
        """Stands in for `method`, such as "assign_add", of a distributed `tf.Variable`."""
        before = tf.convert_to_tensor(variable)
        value = tf.cast(tf.convert_to_tensor(value), before.dtype)
        self._note(variable, before, {"assign_add": before + value, "assign_sub": before - value}.get(method, value))
        return variable

    def _note(self, variable, before, value):
        value = tf.convert_to_tensor(value)
        self.assignments.append(Assignment(variable, tf.cast(tf.convert_to_tensor(before), value.dtype), value))
        left = self._instead.get(id(variable))
        self.set(variable, left.popleft() if left else value)

    def set(self, variable, value):
        """Sets the value of a variable within the scope, without a note."""
        if isinstance(variable, keras.Variable):
            super().add_update((variable, value))
            return
        self.state_mapping[id(variable)] = value
        _write(variable, value)


@contextlib.contextmanager
def kept_apart(variables):
    """Restores each `tf.Variable` among some variables at the end.

    Yields:
        id of a variable → (the variable, its value).
    """
    plain = {id(each): (each, tf.convert_to_tensor(each)) for each in variables if isinstance(each, tf.Variable)}
    try:
        yield plain
    finally:
        for variable, value in plain.values():
            _write(variable, value)


@contextlib.contextmanager
def functions_run_eagerly():
    """Makes functions of the user's under `tf.function` run eagerly, so that what they assign is known outside."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _write(variable, value):
    for part in getattr(variable, "values", [variable]):
        part.assign(tf.cast(value, part.dtype))


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
