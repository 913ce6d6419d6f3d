"""Checks of the arguments of the functions for loops written by hand."""

from typing import Any

import keras
import tensorflow as tf

from tfdist.process.errors import UsageError


def check_gradients(gradients: Any, method: str) -> None:
    """Refuses gradients that are no list of tensors.

    Args:
        gradients: as `reduce_gradients` takes them.
        method: the name of the function that was called.

    Raises:
        ValueError: the message says what came.
    """
    if not isinstance(gradients, list | tuple):
        raise UsageError(
            f"{method}: gradients is {gradients!r}. Give the list that tape.gradient(loss, variables) returns."
        )
    for gradient in gradients:
        if isinstance(gradient, str | list | dict | bool):
            raise UsageError(f"{method}: gradients has {gradient!r}. Give tensors, tf.IndexedSlices or None.")


def check_update(optimizer: Any, variables: Any) -> None:
    """Refuses what is no Keras optimizer, and variables that are none.

    Raises:
        ValueError: the message says what came.
    """
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise UsageError(
            f"apply_gradients: optimizer is {optimizer!r}. Give a Keras optimizer, made in strategy.scope(), such as "
            "keras.optimizers.Adam()."
        )
    if not isinstance(variables, list | tuple):
        raise UsageError(
            f"apply_gradients: variables is {variables!r}. Give a list, such as model.trainable_variables."
        )
    for variable in variables:
        if not isinstance(variable, keras.Variable | tf.Variable):
            raise UsageError(f"apply_gradients: variables has {variable!r}. Give variables.")
