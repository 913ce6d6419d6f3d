"""What `choose_strategy` has last chosen in this process, so that a model outside of it is noticed."""

import weakref
from collections.abc import Callable

import tensorflow as tf


class _Chosen:
    """The last choice.

    Attributes:
        strategy: a function () → the strategy, or None if there is none any more.
        alone: whether this process trains alone, whatever the environment describes.
    """

    strategy: Callable[[], tf.distribute.Strategy | None] = staticmethod(lambda: None)
    alone: bool = False


def remember(strategy: tf.distribute.Strategy, *, alone: bool) -> None:
    """Remembers a choice."""
    # A weak reference, because the strategy of an earlier model is to end with that model.
    _Chosen.strategy, _Chosen.alone = weakref.ref(strategy), alone


def last_strategy() -> tf.distribute.Strategy | None:
    """Returns the strategy of the last choice, as long as something uses it; None before the first."""
    return _Chosen.strategy()


def is_alone() -> bool:
    """Returns whether the last choice was to train alone, whatever the environment describes."""
    return _Chosen.alone


def train_alone() -> None:
    """Makes this process train any model alone, whatever the environment describes and was chosen before."""
    _Chosen.strategy, _Chosen.alone = staticmethod(lambda: None), True
