"""Tries eagerly whether what is computed from parts of some rows adds up to what is computed from all of them.

What adds up may be computed by each replica on its own rows. What does not is computed from the rows of all replicas.
Both are tried with the rules of the step, so a mean over rows and a sum that Keras reduces add up.
"""

import contextlib
import enum
import functools

import keras
import numpy as np
import tensorflow as tf

from tfdist.internals.access.gathering import is_carried
from tfdist.internals.access.replica import Rows, on_trial, rows_are, swapped

# How far parts may be from the whole, relative to the largest number, by the type of the computation.
_TOLERANCES = {tf.float64: 1e-9, tf.float32: 1e-4}
_TOLERANCE_OF_HALF = 3e-2
# A change that only float64 resolves.
_NUDGE = 1e-11
_SEED = 7


class Finding(enum.IntEnum):
    """What was found: the numbers are exchanged between workers."""

    ROWS = 0
    COUPLED = 1
    UNKNOWN = 2
    # It calls an operation of tfdist's over the replicas, and so takes care of them itself.
    OWN = 3


def try_loss(loss, y_true, y_pred, sample_weight=None):
    """Tries whether a loss is a mean over rows, or another value that adds up.

    Args:
        loss: a `keras.losses.Loss` as Keras calls it, or another function of targets and outputs.
        y_true, y_pred: nested tensors (B, ...).
        sample_weight: None, or a tensor (B, ...): then the loss is also tried with weights of that shape.

    Returns:
        A `Finding`.
    """
    return _with_and_without(functools.partial(_try_loss, loss, y_true, y_pred), sample_weight)


def _with_and_without(attempt, sample_weight):
    """Returns what is found without weights if that decides it, else what is found with those that are given."""
    found = attempt()
    if sample_weight is None or found in (Finding.COUPLED, Finding.OWN):
        return found
    return attempt(tf.nest.map_structure(_weights_like, sample_weight))


def _weights_like(value):
    """Returns weights that differ between rows, because those of the first rows may be alike or zero."""
    numbers = np.random.default_rng(_SEED).uniform(0.5, 2.0, size=value.shape)
    return tf.constant(numbers, value.dtype if value.dtype.is_floating else keras.config.floatx())


def _try_loss(loss, y_true, y_pred, *weights):
    found = Finding.UNKNOWN
    for targets, outputs in copies(y_true, y_pred):
        for dtype in _types_of(outputs):
            with _in_type(loss, dtype):
                verdict = _try_copy(loss, _cast((targets, outputs, *weights), dtype), dtype)
            if verdict in (Finding.COUPLED, Finding.OWN):
                return verdict
            if verdict == Finding.ROWS:
                found = verdict
                break
    return found


def _types_of(values):
    """Returns the types to compute in: the widest, and the values' own if the loss cannot be computed in it."""
    own = next((value.dtype for value in tf.nest.flatten(values) if value.dtype.is_floating), tf.float32)
    return dict.fromkeys((tf.float64, own))


def _cast(values, dtype):
    def cast(value):
        return tf.cast(value, dtype) if value is not None and value.dtype.is_floating else value

    return tf.nest.map_structure(cast, values)


@contextlib.contextmanager
def _in_type(loss, dtype):
    """Makes a loss of Keras' compute in a type; others keep theirs."""
    # Keras casts to `_dtype`, of which `dtype` is a view.
    named = isinstance(loss, keras.losses.Loss) and hasattr(loss, "_dtype")
    with swapped((loss, "_dtype", dtype.name)) if named else contextlib.nullcontext():
        yield


def _try_copy(loss, given, dtype):
    y_true, y_pred, *weights = given
    count = rows_of(y_pred)
    try:
        with on_trial() as called:
            whole = _contribution(loss, given, [(0, count)])
            again = _contribution(loss, given, [(0, count)])
            nudged = _contribution(loss, (y_true, _nudged(y_pred), *weights), [(0, count)])
    except Exception:
        return Finding.UNKNOWN
    if called:
        return Finding.OWN
    # It may cast to a narrower type by itself.
    narrow = dtype == tf.float64 and float(whole[0]) == float(nudged[0])
    near = functools.partial(is_near, dtype=tf.float32 if narrow else dtype)
    # A value that is not finite shows nothing, and neither does one that is drawn at random.
    if not all(np.isfinite(wide(value)).all() for value in whole) or not all(map(near, whole, again)):
        return Finding.UNKNOWN
    first = max(1, count // 3)
    try:
        parts = _contribution(loss, given, [(0, first), (first, count)])
    except Exception:
        # It needs the rows that it was given: those of all replicas are what one device would give it.
        return Finding.COUPLED
    return Finding.ROWS if all(map(near, whole, parts)) else Finding.COUPLED


def _nudged(values):
    def nudge(value):
        return value * (1 + _NUDGE) if value.dtype == tf.float64 else value

    return tf.nest.map_structure(nudge, values)


def _contribution(loss, given, bounds):
    """Returns [what parts of the rows add to the loss, the gradients by the outputs], as the step adds them up.

    Args:
        loss: as in `try_loss`.
        given: its arguments: the targets, the outputs and perhaps weights.
        bounds: list of the (first, last) row of each part.
    """
    count = rows_of(given[1])
    flat = [value for value in tf.nest.flatten(given[1]) if value.dtype.is_floating]
    with tf.GradientTape() as tape:
        tape.watch(flat)
        total = tf.zeros([], tf.float64)
        for first, last in bounds:
            rows = rows_between(first, last, count)
            with rows_are(rows), keras.StatelessScope():
                value = tf.convert_to_tensor(loss(*sliced(given, first, last)))
            part = value * rows.share(value.dtype) if value.shape.rank == 0 else value
            total += tf.cast(tf.reduce_sum(part), tf.float64)
    gradients = tape.gradient(total, flat, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return [total, *(tf.convert_to_tensor(gradient) for gradient in gradients)]


def try_metric(metric, y_true, y_pred, sample_weight=None):
    """Tries whether the variables of a metric add up over parts of the rows, also after several batches.

    Args:
        metric: a `keras.metrics.Metric`.
        y_true, y_pred: nested tensors (B, ...).
        sample_weight: as in `try_loss`.

    Returns:
        A `Finding`.
    """
    return _with_and_without(functools.partial(_try_metric, metric, y_true, y_pred), sample_weight)


def _try_metric(metric, y_true, y_pred, *weights):
    count = rows_of(y_pred)
    batches = [(*copy, *weights) for copy in copies(y_true, y_pred)]
    # Whether something was seen at all adds up where only one part of the rows shows it, but not where both do.
    twice = [tf.nest.map_structure(_doubled, batch) for batch in batches]
    try:
        with on_trial() as called:
            whole = _states(metric, batches, 0, count)
    except Exception:
        return Finding.UNKNOWN
    if called:
        return Finding.OWN
    try:
        adds_up = _adds_up(whole, metric, batches, max(1, count // 3), count)
        adds_up = adds_up and _adds_up(_states(metric, twice, 0, 2 * count), metric, twice, count, 2 * count)
    except Exception:
        return Finding.COUPLED
    return Finding.ROWS if adds_up else Finding.COUPLED


def _adds_up(whole, metric, batches, first, count):
    """Returns whether the states after the rows before and from `first` add up to those of all rows."""
    parts = zip(_states(metric, batches, 0, first), _states(metric, batches, first, count), strict=True)
    return all(is_near(value, np.add(*each)) for value, each in zip(whole, parts, strict=True))


def _states(metric, batches, first, last):
    """Returns the values of a metric's variables after each batch, from its reset; the metric itself is unchanged."""
    states = []
    with keras.StatelessScope() as scope:
        metric.reset_state()
        for batch in batches:
            with rows_are(rows_between(first, last, rows_of(batch[1]))):
                metric.update_state(*sliced(batch, first, last))
            values = [scope.get_current_value(variable) for variable in metric.variables]
            states += [np.zeros(()) if value is None else wide(value) for value in values]
    return states


def _doubled(value):
    return tf.concat([value, value], axis=0) if has_rows(value) else value


def copies(y_true, y_pred):
    """Yields (targets, outputs): those given, and copies of them that are perturbed.

    A hinge may be inactive for what an untrained model returns, and no two rows may have one label.
    """
    yield y_true, y_pred
    generator = np.random.default_rng(_SEED)
    count = rows_of(y_pred)
    pairs = np.arange(count) // 2
    # A mean with another row stays what an output is: between two bounds, or adding up to one.
    other = generator.permutation(count)
    mix = functools.partial(_mixed, other)
    yield _picked(y_true, pairs), tf.nest.map_structure(mix, y_pred)
    spread = functools.partial(_spread, generator)
    yield _picked(y_true, pairs[::-1]), tf.nest.map_structure(spread, y_pred)


def _mixed(other, value):
    if not value.dtype.is_floating:
        return tf.gather(value, other)
    return 0.7 * value + 0.3 * tf.gather(value, other)


def _spread(generator, value):
    """Returns outputs that differ more between rows: probabilities where they were, else with noise."""
    if not value.dtype.is_floating:
        return value
    array = wide(value)
    noise = generator.normal(size=array.shape)
    if array.min() < 0 or array.max() > 1:
        return tf.cast(array + noise * (array.std() + 1.0), value.dtype)
    if array.ndim > 1 and array.shape[-1] > 1 and np.allclose(array.sum(-1), 1, atol=1e-2):
        return tf.cast(tf.nn.softmax(noise), value.dtype)
    return tf.cast(tf.nn.sigmoid(noise), value.dtype)


def _picked(values, places):
    def pick(value):
        return tf.gather(value, places) if has_rows(value) else value

    return tf.nest.map_structure(pick, values)


def has_rows(value):
    """Returns whether a value has rows: a dense tensor of any type, but no scalar."""
    return isinstance(value, tf.Tensor) and bool(value.shape.rank)


def can_be_tried(values):
    """Returns whether nested values have rows that can be cut, and that replicas can exchange."""
    return all(value is None or is_carried(value) for value in tf.nest.flatten(values))


def rows_of(values):
    """Returns the number of rows of nested tensors."""
    return next(int(value.shape[0]) for value in tf.nest.flatten(values) if has_rows(value))


def rows_between(first, last, count):
    """Returns the `Rows` of a replica that would have the rows first..last-1 of a batch."""
    return Rows(*(tf.constant(number, tf.int64) for number in (last - first, count, first)))


def sliced(values, first, last):
    """Returns the rows first..last-1 of nested tensors."""
    return tf.nest.map_structure(lambda value: value[first:last] if has_rows(value) else value, values)


def wide(value):
    """Returns a value as a float64 array."""
    value = tf.convert_to_tensor(value)
    return np.asarray(tf.cast(value, tf.float64) if value.dtype.is_floating else value).astype("float64")


def is_near(whole, part, dtype=tf.float32):
    """Returns whether two values are equal but for rounding in a type."""
    whole, part = wide(whole), wide(part)
    finite = np.isfinite(whole)
    if not np.array_equal(finite, np.isfinite(part)):
        return False
    if not np.array_equal(whole[~finite], part[~finite], equal_nan=True):
        return False
    scale = np.abs(whole[finite]).max(initial=0.0)
    tolerance = _TOLERANCES.get(dtype, _TOLERANCE_OF_HALF)
    return bool(np.abs(whole[finite] - part[finite]).max(initial=0.0) <= tolerance * scale + 1e-12)
