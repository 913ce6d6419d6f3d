"""Finds the callbacks that look at single batches, and when they do, because a long call would hide its inner steps."""

import dataclasses
from collections.abc import Callable

import keras

from tfdist.internals.access.callbacks import looks_at_batches, saves_every, steps_until_saving

_HOOKS = (
    "on_batch_begin",
    "on_batch_end",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_test_batch_begin",
    "on_test_batch_end",
)


@dataclasses.dataclass(frozen=True)
class BatchListener:
    """A callback that looks at steps within an epoch.

    Attributes:
        name: the name of the callback's class.
        every: the number of steps from one look to the next.
        steps_left: a function () → the number of steps until the next look.
    """

    name: str
    every: int
    steps_left: Callable[[], int]


def find_listeners(callbacks):
    """Returns a `BatchListener` for each callback that looks at steps within an epoch.

    Keras' callbacks that show progress or stop the run work with calls of any length, and those that save do so after a
    known number of steps. tfdist's own callbacks count the steps of any call correctly. Every other callback that has a
    batch method, or a function in its place, looks at each batch.

    Args:
        callbacks: Keras callbacks.
    """
    found = ((callback, _steps_between(callback)) for callback in callbacks)
    return [_listener(callback, every) for callback, every in found if every]


def describe(listener):
    """Returns a phrase that states how a `BatchListener` limits the calls."""
    if listener.every == 1:
        return f"callback {listener.name} looks at each batch, so auto keeps 1 step per call"
    return f"callback {listener.name} saves every {listener.every} steps, so auto ends a call there"


def _listener(callback, every):
    left = (lambda: 1) if every == 1 else (lambda: steps_until_saving(callback))
    return BatchListener(type(callback).__name__, every, left)


def _steps_between(callback):
    """Returns the number of steps from one look to the next; None if the callback works with calls of any length."""
    if any(_is_user_defined(getattr(callback, hook, None)) for hook in _HOOKS):
        return 1
    if isinstance(callback, keras.callbacks.TensorBoard):
        return 1 if looks_at_batches(callback) else None
    return saves_every(callback)


def _is_user_defined(function):
    module = str(getattr(function, "__module__", ""))
    return function is not None and not module.startswith(("keras.src.callbacks.", "tfdist."))
