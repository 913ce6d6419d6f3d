"""Makes Keras' own `evaluate` and `predict` ask tfdist before they run."""

import contextlib
import functools

import keras

_METHODS = ("evaluate", "predict")


@contextlib.contextmanager
def checked(check):
    """Calls `check(model, method)` before each of these methods of any model, while the context is entered.

    Not `swapped`, whose lock must not be held for a whole run.

    Args:
        check: a function (`keras.Model`, the method's name), which may raise.
    """
    originals = {name: getattr(keras.Model, name) for name in _METHODS}
    for name, original in originals.items():
        setattr(keras.Model, name, _checking(check, name, original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(keras.Model, name, original)


def _checking(check, name, original):
    @functools.wraps(original)
    def method(self, *arguments, **options):
        check(self, name)
        return original(self, *arguments, **options)

    return method
