"""Tries which layers of the user's own give other outputs, or assign other states, for parts of some rows.

A layer that does is run on the rows of all replicas. The model is computed eagerly on some rows, and each call of a
layer is noted. Then a layer is called again, on parts of the rows that it was given. What it assigns on a part becomes
what it assigned on the whole, because in a step the parts of all replicas become that at once. The calls within it of
layers that are known already return the rows of the part from what they returned.
"""

import collections
import contextlib
import enum
import functools
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfdist.internals.access import layer_trials, models, user_code, variables
from tfdist.internals.access.replica import on_trial, replaced_methods, rows_are
from tfdist.internals.patches import assignments
from tfdist.synchronous.step import trial

# Few, because a model may be large; and odd, so that hardly anything else has as many.
_ROWS = 7
# How far assigned values may be from the whole's, by what they changed and by what they are.
_OF_CHANGE, _OF_VALUE = {tf.float64: 1e-7, tf.float32: 1e-4}, {tf.float64: 1e-12, tf.float32: 1e-6}
_OF_HALF = 3e-2


class Joint(enum.IntEnum):
    """What was found of a layer: the numbers are exchanged between workers."""

    # Each replica calls it on its own rows.
    ROWS = 0
    # It is to be called on the rows of all replicas: in training, or always.
    IN_TRAINING = 1
    ALWAYS = 2
    # It would have to be, but its inputs and outputs are no rows of the batch.
    WRONG = 3
    # It draws random numbers, cannot be tried, or takes care of the replicas itself.
    UNKNOWN = 4


class _Call(NamedTuple):
    """A call of a layer.

    Attributes:
        layer: the layer.
        given: (arguments, options).
        values: what the variables were before, as in `layer_trials.NotingScope`.
        outputs: what it returned.
        assigned: list of `layer_trials.Assignment`.
        first: the place, in the list of all calls, of the first call within it; those within it end before it.
        batch: the number of rows of the batch.
    """

    layer: Any
    given: tuple[tuple[Any, ...], dict[str, Any]]
    values: dict[int, tf.Tensor]
    outputs: Any
    assigned: list[layer_trials.Assignment]
    first: int
    batch: int


class LayerTrial:
    """Tries the layers of a model that the user has written.

    Args:
        model: a built `keras.Model` of several replicas.
        layers: the layers to try.
    """

    def __init__(self, model, layers):
        self._model, self._layers = model, layers
        self._states = {variables.identity(each): each for each in models.states(model)}
        reached = variables.reached_from({"model": model})
        self._seeds, self._variables = set(map(variables.identity, reached.seeds)), list(reached.variables.values())
        self._known = {id(layer) for layer in models.layers(model) if user_code.needs_no_trial(layer)}
        self._calls, self._running, self._left = [], [], None
        self._scope, self._plain = None, {}

    def find(self, x):
        """Returns a `Joint` for each of the layers, and one for the model; x are nested tensors (B, ...)."""
        watched = [self._model, *models.layers(self._model)]
        watched = [each for each in watched if each is self._model or each in self._layers or id(each) in self._known]
        apart, noted = layer_trials.kept_apart(self._variables), assignments.assignments_are(self._assign)
        watching, eagerly = replaced_methods(watched, "call", self._noted), layer_trials.functions_run_eagerly()
        with apart as self._plain, noted, watching, eagerly, tf.device("CPU:0"):
            self._call_model(x)
            if self._of_model() == Joint.ROWS and not self._unreached():
                return [Joint.ROWS] * len(self._layers), Joint.ROWS
            for layer in self._unreached():
                self._call_alone(layer)
            order = {id(call.layer): call.layer for call in self._calls}
            order.pop(id(self._model), None)
            found = {key: self._of_layer(layer) for key, layer in order.items() if key not in self._known}
            return [found.get(id(layer), Joint.UNKNOWN) for layer in self._layers], self._of_model()

    def _assign(self, method, variable, value):
        return self._scope.assign(method, variable, value)

    def _unreached(self):
        reached = {id(call.layer) for call in self._calls}
        return [layer for layer in self._layers if id(layer) not in reached]

    def _call_model(self, x):
        """Calls the model on some rows, and on others after them."""
        x = trial.sliced(x, 0, min(_ROWS, trial.rows_of(x)))
        values = {}
        for rows in (x, _others(x)):
            before = len(self._calls)
            try:
                values = self._note(self._model, rows, values)
            except Exception:
                del self._calls[before:]
                return

    def _call_alone(self, layer):
        """Calls a layer on made-up rows, because the model's own `call` did not: a `train_step` may."""
        shape, before = layer_trials.built_with(layer), len(self._calls)
        if shape is None or not tf.as_dtype(layer.compute_dtype).is_floating:
            return
        x = np.random.default_rng(0).normal(size=[_ROWS, *shape[1:]])
        try:
            self._note(layer, tf.cast(x, layer.compute_dtype), {})
        except Exception:
            del self._calls[before:]

    def _note(self, layer, x, values):
        """Calls a layer with the calls within it noted; returns the values of variables after it."""
        self._count = count = trial.rows_of(x)
        with layer_trials.NotingScope(values, {}, self._plain) as self._scope, _on_rows(layer, (0, count), count):
            layer(x)
        return self._scope.values

    def _noted(self, call):
        """Returns the replacement for a layer's `call`."""

        def noted(layer, *arguments, **options):
            if layer in self._running:
                # A class calls that of its base.
                return call(layer, *arguments, **options)
            if self._left is not None and (calls := self._left.get(id(layer))):
                return self._repeated(calls.popleft())
            scope, first, values = self._scope, len(self._calls), dict(self._scope.values)
            start = len(scope.assignments)
            self._running.append(layer)
            try:
                outputs = call(layer, *arguments, **options)
            finally:
                self._running.pop()
            if self._left is None:
                assigned = scope.assignments[start:]
                self._calls.append(_Call(layer, (arguments, options), values, outputs, assigned, first, self._count))
            return outputs

        return noted

    def _repeated(self, call):
        """Returns what a call returned, for the part of the rows that is tried."""
        for variable, _, value in call.assigned:
            self._scope.set(variable, value)
        return _cut(call.outputs, *self._part)

    def _again(self, call, bounds, count, training=True, instead=None):
        """Calls a layer again on a part of its rows; returns (outputs, the assignments outside of known layers)."""
        place = self._place_of(call)
        left = collections.defaultdict(collections.deque)
        while place > call.first:
            place -= 1
            within = self._calls[place]
            if id(within.layer) in self._known:
                left[id(within.layer)].appendleft(within)
                place = within.first
        self._left, self._part = left, (*bounds, count)
        arguments, options = _cut(call.given, *self._part)
        if not training and options.get("training") is not None:
            options = {**options, "training": False}
        instead = {key: collections.deque(each) for key, each in (instead or {}).items()}
        try:
            scope = layer_trials.NotingScope(call.values, instead, self._plain)
            with scope as self._scope, _on_rows(call.layer, bounds, count, training):
                outputs = call.layer(*arguments, **options)
        finally:
            self._left = None
        return outputs, self._scope.assignments

    def _of_model(self):
        calls = [call for call in self._calls if call.layer is self._model]
        return max(map(self._of_call, calls), default=Joint.UNKNOWN)

    def _of_layer(self, layer):
        """Returns the `Joint` of a layer; one that is not alone with its rows is known from now on."""
        calls = [call for call in self._calls if call.layer is layer]
        found = Joint.UNKNOWN if user_code.talks_to_replicas(layer) else max(map(self._of_call, calls))
        if found != Joint.ROWS:
            self._known.add(id(layer))
        return found

    def _of_call(self, call):
        """Returns the `Joint` of a layer by one of its calls."""
        try:
            return self._try(call)
        except Exception:
            # Whatever the user's code does in a trial, it does not end the training.
            return Joint.UNKNOWN

    def _try(self, call):
        count = call.batch
        if count < 2 or not _gives_rows(call):
            return Joint.UNKNOWN
        with on_trial() as called:
            whole, assigned = self._again(call, (0, count), count)
        is_drawn = any(variables.identity(each.variable) in self._seeds for each in assigned)
        if called or is_drawn or not _are_near(whole, call.outputs):
            return Joint.UNKNOWN
        if self._is_of_rows(call, count, whole, assigned):
            return Joint.ROWS
        if not _has_rows_of_batch(call, count):
            return Joint.WRONG
        try:
            in_inference = self._again(call, (0, count), count, training=False)
            is_alone = self._is_of_rows(call, count, *in_inference, training=False)
        except Exception:
            is_alone = False
        return Joint.IN_TRAINING if is_alone else Joint.ALWAYS

    def _is_of_rows(self, call, count, whole, assigned, training=True):
        """Returns whether parts of the rows give the outputs of the whole, and the replicas' states become its."""
        first = max(1, count // 3)
        parts, instead = [(0, first), (first, count)], collections.defaultdict(list)
        for each in [] if self._may_branch(call) else assigned:
            instead[id(each.variable)].append(each.value)
        try:
            ends = [self._again(call, bounds, count, training, instead) for bounds in parts]
        except Exception:
            # It needs the rows that it was given.
            return False
        orders = [[id(each.variable) for each in some] for some in (assigned, *(some for _, some in ends))]
        if orders.count(orders[0]) != len(orders):
            return False
        shares = [(last - first) / count for first, last in parts]
        together = zip(assigned, *(some for _, some in ends), strict=True)
        if not all(self._become_the_whole(call, shares, *each) for each in together):
            return False
        return _outputs_agree(whole, [outputs for outputs, _ in ends], shares, count)

    def _may_branch(self, call):
        """Returns whether something is assigned in a branch, where the parts become the whole's when the step ends."""
        within = self._calls[call.first : self._place_of(call) + 1]
        layers = {id(each.layer): each.layer for each in within if id(each.layer) not in self._known}
        return any(map(user_code.may_branch, layers.values()))

    def _place_of(self, call):
        return next(place for place, each in enumerate(self._calls) if each is call)

    def _become_the_whole(self, call, shares, whole, *parts):
        """Returns whether the step makes of the values that replicas assign the value that one device assigns."""
        state = self._states.get(variables.identity(whole.variable))
        if state is None or whole.value.dtype == tf.string:
            # Metrics and what each replica keeps for itself have rules of their own.
            return True
        before, value, *values = (
            trial.wide(each) for each in (whole.before, *(each.value for each in (whole, *parts)))
        )
        given = max((np.abs(trial.wide(each)).max(initial=0.0) for each in _floating(call.given)), default=0.0)
        is_near = functools.partial(_is_near, value, before=before, given=given, dtype=whole.value.dtype)
        if all(map(is_near, values)):
            return True
        rule = assignments.rule_of(state)
        if rule == assignments.MEAN:
            combined = sum(share * part for share, part in zip(shares, values, strict=True))
        elif rule == assignments.SUM:
            combined = before + sum(part - before for part in values)
        else:
            combined = values[0] if rule == assignments.FIRST else np.max(values, axis=0)
        return is_near(combined)


@contextlib.contextmanager
def _on_rows(layer, bounds, count, training=True):
    with rows_are(trial.rows_between(*bounds, count)), layer_trials.called_in_training(layer, training):
        yield


def _others(x):
    """Returns other rows of the same kind; integers stay, because they may number words."""
    copies = list(trial.copies(x, x))
    return copies[-1][1]


def _is_near(value, other, before, given, dtype):
    """Returns whether two values that are assigned are equal but for rounding.

    Args:
        value, other: the values; arrays.
        before: the value before.
        given: the largest number of the rows from which they are computed.
        dtype: their type.
    """
    if not np.array_equal(np.isfinite(value), np.isfinite(other)):
        return False
    change, size = (np.abs(np.nan_to_num(each)).max(initial=0.0) for each in (value - before, value))
    # A mean of rows may be nothing but rounding, such as behind BatchNormalization.
    allowed = _OF_CHANGE.get(dtype, _OF_HALF) * change + _OF_VALUE.get(dtype, _OF_HALF / 3) * max(size, 0.3 * given)
    if not dtype.is_floating:
        allowed = 0.0
    return bool(np.abs(np.nan_to_num(value) - np.nan_to_num(other)).max(initial=0.0) <= allowed + 1e-300)


def _are_near(outputs, others):
    pairs = list(zip(tf.nest.flatten(outputs), tf.nest.flatten(others), strict=True))
    tensors = [(whole, part) for whole, part in pairs if isinstance(whole, tf.Tensor)]
    return all(trial.is_near(whole, part, _type_of(whole)) for whole, part in tensors)


def _type_of(value):
    return value.dtype if value.dtype.is_floating else tf.float32


def _outputs_agree(whole, parts, shares, count):
    """Returns whether parts have the rows of the whole; what has no rows is a mean over them or the same."""
    for value, *some in zip(*map(tf.nest.flatten, (whole, *parts)), strict=True):
        if not isinstance(value, tf.Tensor):
            continue
        if not value.dtype.is_floating and not value.dtype.is_integer and value.dtype != tf.bool:
            continue
        wide = [trial.wide(part) for part in some]
        if trial.has_rows(value) and value.shape[0] % count == 0:
            if sum(len(part) for part in wide) != value.shape[0]:
                return False
            joined = np.concatenate(wide)
        elif any(part.shape != tuple(value.shape) for part in wide):
            return False
        else:
            joined = sum(share * part for share, part in zip(shares, wide, strict=True))
        if not trial.is_near(value, joined, _type_of(value)):
            return False
    return True


def _floating(values):
    return [value for value in _tensors(values) if value.dtype.is_floating]


def _tensors(values):
    return [value for value in tf.nest.flatten(values) if isinstance(value, tf.Tensor)]


def _gives_rows(call):
    """Returns whether a call is given rows, a number of them for each row of the batch, and no other parts."""
    given = [value for value in tf.nest.flatten(call.given) if tf.is_tensor(value)]
    if not all(isinstance(value, tf.Tensor) for value in given):
        return False
    rows = next((value.shape[0] for value in given if trial.has_rows(value)), 0)
    return bool(rows) and rows % call.batch == 0


def _has_rows_of_batch(call, count):
    """Returns whether each input and output of a call has the rows of the batch, or none."""
    given = [value for value in _tensors(call.given) if trial.has_rows(value)]
    returned = [value for value in _tensors(call.outputs) if trial.has_rows(value)]
    multiples = [value for value in (*given, *returned) if value.shape[0] % count == 0]
    return trial.can_be_tried(given) and all(value.shape[0] == count for value in multiples)


def _cut(values, first, last, count):
    """Returns the part of nested values that belongs to some rows; what has no rows stays."""

    def cut(value):
        if not trial.has_rows(value) or not value.shape[0] or value.shape[0] % count:
            return value
        each = value.shape[0] // count
        return value[first * each : last * each]

    return tf.nest.map_structure(functools.partial(layer_trials.with_mask, cut), values)
