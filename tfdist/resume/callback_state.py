"""Collects the states of callbacks for a checkpoint, and restores them.

A user's own callback takes part with the two methods of `tfdist.callbacks.Callback`: `get_state()` and
`set_state(state)`; a Keras callback that has both does so too. The variables that a callback holds, such as those of a
copy of the model, are saved without them.
"""

import contextlib

import keras
import numpy as np

from tfdist.checkpoints.contents import assign, describe
from tfdist.internals.access.callbacks import remembered
from tfdist.internals.access.variables import reached_from
from tfdist.process.errors import UsageError
from tfdist.process.log import warn

# Marks of what JSON does not know, in the place of a value.
_ARRAY, _SET, _PAIRS = "__array__", "__set__", "__pairs__"


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


def collect(callbacks, known=()):
    """Returns (a list of JSON types, name → array): the states and the variables of all callbacks that have some.

    Args:
        callbacks: the callbacks.
        known: variables that are saved with the model.

    Raises:
        UsageError: a state holds what cannot be saved.
    """
    arrays = {}
    items = []
    for name, callback in _named(callbacks):
        place = f"callback/{len(items)}"
        state, variables = state_of(callback), _variables_of(callback, known)
        item = {"callback": name}
        if state is not None:
            item["state"] = _without_arrays(state, place, arrays, f"{name}: get_state()")
        if variables:
            item["variables"] = list(map(describe, variables, variables.values()))
            arrays |= {f"{place}/variable/{index}": each for index, each in enumerate(variables.values())}
        if len(item) > 1:
            items.append(item)
    return items, arrays


def check(callbacks):
    """Checks that the states of the callbacks can be saved, as far as they have one before the first step.

    Raises:
        UsageError: a state holds what cannot be saved.
    """
    for name, callback in _named(callbacks):
        state = None
        # A callback may know its state only later. What it raises then ends the run, with its own traceback.
        with contextlib.suppress(Exception):
            state = state_of(callback)
        if state is not None:
            _without_arrays(state, "", {}, f"{name}: get_state()")


def restore(callbacks, items, arrays, known=()):
    """Restores what `collect` returned for callbacks of the same classes and monitors, in the same order."""
    places = {item["callback"]: (f"callback/{place}", item) for place, item in enumerate(items)}
    for name, callback in _named(callbacks):
        place, item = places.get(name, (None, {}))
        if "state" in item:
            set_state(callback, _with_arrays(item["state"], arrays))
        _restore_variables(name, _variables_of(callback, known), item.get("variables", ()), place, arrays)


def _variables_of(callback, known):
    """Returns name → variable, for those that only a callback of the user leads to."""
    if type(callback).__module__.startswith(("tfdist.", "keras.")):
        return {}
    variables = reached_from({type(callback).__name__: callback}, known).variables
    return {name: variable for name, variable in variables.items() if describe(name, variable)["dtype"] != "string"}


def _restore_variables(name, variables, stored, place, arrays):
    present = list(map(describe, variables, variables.values()))
    shapes = [[(one["shape"], one["dtype"]) for one in some] for some in (stored, present)]
    if shapes[0] == shapes[1]:
        for index, variable in enumerate(variables.values()):
            assign(variable, arrays[f"{place}/variable/{index}"])
        return
    warn(
        f"callback {name}: the checkpoint holds {len(stored)} variables of it, and it has {len(present)} now, or of "
        "other shapes. They are not restored. Make them in the callback's constructor or in on_train_begin."
    )


def _named(callbacks):
    """Yields (name, callback); the name has the class, what it monitors, and a number among several alike."""
    seen = {}
    for callback in callbacks:
        kind = type(callback).__name__, getattr(callback, "monitor", None)
        seen[kind] = seen.get(kind, -1) + 1
        yield f"{kind[0]} of {kind[1]} #{seen[kind]}", callback


def _without_arrays(value, name, arrays, where):
    """Moves the arrays of a nested value into `arrays`; returns the value with references in their places."""
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            pairs = [list(pair) for pair in value.items()]
            return {_PAIRS: _without_arrays(pairs, name, arrays, where)}
        return {key: _without_arrays(item, f"{name}/{key}", arrays, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, set | frozenset):
        # In one order, so that the same state is the same file.
        return {_SET: _without_arrays(sorted(value, key=repr), name, arrays, where)}
    if isinstance(value, list | tuple):
        return [
            _without_arrays(item, f"{name}/{index}", arrays, f"{where}[{index}]") for index, item in enumerate(value)
        ]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return _without_array(value, name, arrays, where)


def _without_array(value, name, arrays, where):
    array = np.asarray(value)
    if array.dtype.kind == "O":
        raise UsageError(
            f"callback {where} is {value!r}, which a checkpoint cannot hold. Return numbers, strings, arrays, and "
            "lists, sets and dicts of them."
        )
    if array.ndim == 0 and array.dtype.kind in "biuf":
        return array.item()
    arrays[name] = array
    return {_ARRAY: name, "dtype": array.dtype.name}


def _with_arrays(value, arrays):
    if isinstance(value, dict) and _ARRAY in value:
        # A view, because NumPy forgets the names of types such as bfloat16.
        array = arrays[value[_ARRAY]]
        return array if array.dtype.kind != "V" else array.view(value["dtype"])
    if isinstance(value, dict) and _SET in value:
        return {_as_key(item) for item in _with_arrays(value[_SET], arrays)}
    if isinstance(value, dict) and _PAIRS in value:
        return {_as_key(key): item for key, item in _with_arrays(value[_PAIRS], arrays)}
    if isinstance(value, dict):
        return {key: _with_arrays(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_arrays(item, arrays) for item in value]
    return value


def _as_key(value):
    """Returns a value that was the member of a set or the key of a dict: JSON has made a list of a tuple."""
    return tuple(map(_as_key, value)) if isinstance(value, list) else value
