"""Which callbacks look at single batches, and after which steps: long calls would hide from them what they count."""

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
        name: its class.
        every: the steps from one look to the next.
        steps_left: gives the steps until the next look.
    """

    name: str
    every: int
    steps_left: Callable[[], int]


def find_listeners(callbacks):
    """Lists a `BatchListener` for each callback that looks at steps within an epoch.

    Of Keras' own, those that show or stop take a long call as well as a short one, and those that save do so after a
    number of steps that is known; tfdist's own count steps rightly in any call. Whatever else has a method for batches,
    or a function in its place, looks at each.

    Args:
        callbacks: Keras callbacks.
    """
    found = ((callback, _steps_between(callback)) for callback in callbacks)
    return [_listener(callback, every) for callback, every in found if every]


def describe(listener):
    """Gives the words that say what a `BatchListener` makes of the calls."""
    if listener.every == 1:
        return f"callback {listener.name} looks at each batch, so auto stays at one step a call"
    return f"callback {listener.name} saves every {listener.every} steps, so auto lets a call end there"


def _listener(callback, every):
    left = (lambda: 1) if every == 1 else (lambda: steps_until_saving(callback))
    return BatchListener(type(callback).__name__, every, left)


def _steps_between(callback):
    """Gives the steps from one look to the next; None where the callback takes calls as they come."""
    if any(_is_the_users(getattr(callback, hook, None)) for hook in _HOOKS):
        return 1
    if isinstance(callback, keras.callbacks.TensorBoard):
        return 1 if looks_at_batches(callback) else None
    return saves_every(callback)


def _is_the_users(function):
    module = str(getattr(function, "__module__", ""))
    return function is not None and not module.startswith(("keras.src.callbacks.", "tfdist."))
