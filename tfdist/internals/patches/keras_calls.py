"""Makes calls in which every worker must take part ask tfdist before they run: Keras' own, and reads of metrics."""

import contextlib
import functools

import keras
from tensorflow.python.distribute.values import SyncOnReadVariable

# (class, method, what a message calls it). A metric's variable has a part on each replica, which a read sums up.
_CALLS = (
    (keras.Model, "evaluate", "model.evaluate"),
    (keras.Model, "predict", "model.predict"),
    (SyncOnReadVariable, "_get_cross_replica", "reading a metric"),
)


@contextlib.contextmanager
def checked(check):
    """Calls `check(name)` before each of these calls, while the context is entered.

    Not `swapped`, whose lock must not be held for a whole run.

    Args:
        check: a function (the call's name for messages), which may raise.
    """
    originals = [getattr(owner, method) for owner, method, _ in _CALLS]
    for (owner, method, name), original in zip(_CALLS, originals, strict=True):
        setattr(owner, method, _checking(check, name, original))
    try:
        yield
    finally:
        for (owner, method, _), original in zip(_CALLS, originals, strict=True):
            setattr(owner, method, original)


def _checking(check, name, original):
    @functools.wraps(original)
    def method(*arguments, **options):
        check(name)
        return original(*arguments, **options)

    return method
