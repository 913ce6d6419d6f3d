"""Tries whether what layers and a `compute_loss` add to the loss is a mean over rows, or adds up in another way."""

import contextlib
import enum
import functools

import keras
import tensorflow as tf

from tfdist.internals.access import models, user_code
from tfdist.internals.access.lineage import as_mean
from tfdist.internals.access.replica import added_losses, on_trial, replaced_methods, rows_are
from tfdist.internals.access.tracing import compiled
from tfdist.synchronous.step import trial
from tfdist.synchronous.step.own_steps import lineage_of

_TOLERANCE = 1e-4


class Added(enum.IntEnum):
    """What was found of a layer: the numbers are exchanged between workers."""

    ROWS = 0
    # It couples rows, and can be computed from the rows of all replicas.
    OF_ALL_ROWS = 1
    # It couples rows, and is left as it is.
    WRONG = 2


def forward(model, x, y, bounds, *, training, watched=()):
    """Computes a model on some rows as a replica that has them, and leaves its variables as they are.

    Args:
        model: a built `keras.Model`.
        x, y: nested tensors (B, ...).
        bounds: (first, last) of the rows.
        training: as in `keras.Model`.
        watched: layers whose inputs and outputs are looked at.

    Returns:
        (outputs; what each layer adds to the loss, by id, and what the model's own `compute_loss` returns, by None; for
        each watched layer, by id, whether its inputs and outputs all have a row for each row of the batch, None where
        it calls an operation over the replicas).
    """
    first, last = bounds
    rows = trial.rows_between(first, last, trial.rows_of(x))
    x, y = trial.sliced(x, first, last), trial.sliced(y, first, last)
    fits = {id(layer): True for layer in watched}
    watching = replaced_methods(watched, "call", functools.partial(_watched, last - first, fits))
    with watching, rows_are(rows), keras.StatelessScope():
        y_pred = models.call(model, x, training=training)
        added = {key: _sum(losses, rows) for key, losses in added_losses().items() if losses}
        if models.has_own(model, "compute_loss"):
            added[None] = float(_own_loss(model, x, y, rows, training))
    return y_pred, added, fits


def _own_loss(model, x, y, rows, training):
    """Returns what the model's own `compute_loss` adds for some rows, with sums over rows told from means as in a step.

    Where the step itself finds a term that is neither, and says so, it is zero.
    """
    coupled = []

    @compiled
    def traced(x, y):
        loss = models.compute_loss(model, x, y, models.call(model, x, training=training), None, training=training)
        loss = tf.convert_to_tensor(loss)
        if loss.shape.rank:
            return tf.reduce_sum(loss)
        with lineage_of(model, (x, y), rows, coupled.append):
            return as_mean(loss, rows, "compute_loss returns") * rows.share(loss.dtype)

    # With an open number of rows, as in the step: a known one is a constant there, and counts no rows.
    specs = tf.nest.map_structure(lambda each: None if each is None else _open_spec(each), (x, y))
    value = traced.get_concrete_function(*specs)(x, y)
    return 0.0 if coupled else value


def _open_spec(value):
    return tf.TensorSpec([None, *value.shape[1:]] if value.shape.rank else [], value.dtype)


def _sum(losses, rows):
    tensors = [tf.convert_to_tensor(loss) for loss in losses]
    return sum(float(tf.reduce_sum(each) * (1 if each.shape.rank else rows.share(each.dtype))) for each in tensors)


def _watched(count, fits, call):
    def watched(self, *arguments, **options):
        with on_trial() as called:
            outputs = call(self, *arguments, **options)
        given = [value for value in keras.tree.flatten(arguments[:1]) if value is not None]
        values = [*given, *keras.tree.flatten(outputs)]
        fit = bool(given) and all(trial.has_rows(v) and v.shape[0] == count for v in values)
        fits[id(self)] = None if called or fits[id(self)] is None else fits[id(self)] and fit
        return outputs

    return watched


def try_added(model, x, y, coupled, layers):
    """Tries what some layers add to the loss, and a `compute_loss` of the model's own.

    Args:
        model: a built `keras.Model`.
        x, y: nested tensors (B, ...).
        coupled: the places of the compiled losses that are computed from all rows, so that they need not add up here.
        layers: the layers to try, perhaps with the model itself.

    Returns:
        (an `Added` for each of the layers, whether `compute_loss` is no mean over rows).
    """
    count, training = trial.rows_of(x), not user_code.depends_on_training(model)
    losses = models.compiled_losses(model)
    known = [_zero if place in coupled else loss for place, loss in enumerate(losses)]
    watched = [layer for layer in layers if layer is not model]
    run = functools.partial(forward, model, x, y, training=training, watched=watched)
    try:
        with models.losses_replaced(model, known) if losses else contextlib.nullcontext(), on_trial() as called:
            _, whole, fits = run((0, count))
            _, again, _ = run((0, count))
            parts = [run(bounds)[1] for bounds in ((0, count // 3), (count // 3, count))]
    except Exception:
        return [Added.ROWS] * len(layers), False
    # What is drawn at random shows nothing, and what calls an operation over the replicas takes care of them.
    known = {key for key in whole if _is_near(whole[key], again.get(key, 0.0))}
    known -= {None} if called else set()
    known -= {key for key, fit in fits.items() if fit is None}
    wrong = {key for key in known if not _is_near(whole[key], sum(part.get(key, 0.0) for part in parts))}
    found = [_of_layer(layer, wrong, fits.get(id(layer))) for layer in layers]
    return found, None in wrong and not any(found)


def _of_layer(layer, wrong, fits):
    if id(layer) not in wrong:
        return Added.ROWS
    return Added.OF_ALL_ROWS if fits else Added.WRONG


def _zero(y_true, y_pred, sample_weight=None):
    return tf.zeros([])


def _is_near(value, other):
    return abs(value - other) <= _TOLERANCE * abs(value) + 1e-9
