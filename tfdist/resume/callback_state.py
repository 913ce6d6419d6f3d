"""Collects the states of callbacks for a checkpoint, and restores them.

A user's own callback takes part with the two methods of `tfdist.callbacks.Callback`: `get_state()` and
`set_state(state)`; a Keras callback that has both does so too.
"""

import keras
import numpy as np

from tfdist.internals.access.callbacks import remembered

_ARRAY = "__array__"


def state_of(callback):
    """Returns a callback's state as a dict; None for a callback without state."""
    if hasattr(callback, "get_state") and hasattr(callback, "set_state"):
        return callback.get_state()
    names = remembered(callback)
    return {name: getattr(callback, name) for name in names if hasattr(callback, name)} if names else None


def set_state(callback, state):
    """Restores a callback's state, a dict that `state_of` returned."""
    if hasattr(callback, "set_state"):
        callback.set_state(state)
        return
    for name in remembered(callback):
        if name in state:
            setattr(callback, name, state[name])


def has_stopped(callback):
    """Returns whether an `EarlyStopping` has ended the run, and would do so again."""
    stopping = isinstance(callback, keras.callbacks.EarlyStopping)
    return stopping and callback.stopped_epoch > 0 and callback.wait >= callback.patience


def collect(callbacks):
    """Returns (a list of JSON types, name → array): the states of all callbacks that have one."""
    arrays = {}
    items = []
    for name, callback in _named(callbacks):
        state = state_of(callback)
        if state is not None:
            items.append({"callback": name, "state": _without_arrays(state, f"callback/{len(items)}", arrays)})
    return items, arrays


def restore(callbacks, items, arrays):
    """Restores what `collect` returned for callbacks of the same classes and monitors, in the same order."""
    states = {item["callback"]: item["state"] for item in items}
    for name, callback in _named(callbacks):
        if name in states:
            set_state(callback, _with_arrays(states[name], arrays))


def _named(callbacks):
    """Yields (name, callback); the name has the class, what it monitors, and a number among several alike."""
    seen = {}
    for callback in callbacks:
        kind = type(callback).__name__, getattr(callback, "monitor", None)
        seen[kind] = seen.get(kind, -1) + 1
        yield f"{kind[0]} of {kind[1]} #{seen[kind]}", callback


def _without_arrays(value, name, arrays):
    """Moves the arrays of a nested value into `arrays`; returns the value with references in their places."""
    if isinstance(value, dict):
        return {key: _without_arrays(item, f"{name}/{key}", arrays) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_arrays(item, f"{name}/{index}", arrays) for index, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    array = np.asarray(value)
    if array.ndim == 0 and array.dtype.kind in "biuf":
        return array.item()
    arrays[name] = array
    return {_ARRAY: name, "dtype": array.dtype.name}


def _with_arrays(value, arrays):
    if isinstance(value, dict) and _ARRAY in value:
        # A view, because NumPy forgets the names of types such as bfloat16.
        array = arrays[value[_ARRAY]]
        return array if array.dtype.kind != "V" else array.view(value["dtype"])
    if isinstance(value, dict):
        return {key: _with_arrays(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_arrays(item, arrays) for item in value]
    return value
