"""Finds before the first step which losses and metrics of a model need the rows of all replicas."""

import contextlib
import functools
import warnings
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfdist.data.delivery.share import Form
from tfdist.feeding.sample import sample_batch
from tfdist.internals.access import models, user_code
from tfdist.internals.access.coupling import NAME, Coupling, coupling_of
from tfdist.internals.access.kept import kept
from tfdist.internals.access.replica import added_losses, on_trial, rows_are
from tfdist.process.log import say, warn
from tfdist.strategy.workers import Workers
from tfdist.synchronous.exchange.choice import is_between_workers
from tfdist.synchronous.step import trial
from tfdist.synchronous.step.step import keras_over_all_replicas
from tfdist.synchronous.step.trial import Verdict

_CURE = "Compute it by tfdist.global_loss, or from tfdist.gather_rows, inside it"


def find_coupling(model, feed):
    """Tries a model's losses and metrics on some rows, once after each `compile`; all workers call it together.

    Keras' own are known, so only what a user has written is tried, and the losses of Keras' that couple rows.

    Args:
        model: a compiled, built `keras.Model`.
        feed: the `Feed` of the data.

    Returns:
        A `Coupling`; the chief's on every worker.
    """
    if model.distribute_strategy.num_replicas_in_sync == 1:
        return Coupling()
    return kept(model, NAME, functools.partial(_find, model, feed), models.compile_token(model))


def form_of(model, feed):
    """Returns the `Form` of a feed's batches for a model, with what its exchange of rows needs to know."""
    if not is_between_workers(model.distribute_strategy):
        return feed.form
    # An operation may be called where `user_code.calls_operation` does not see it.
    exchanges = coupling_of(model).exchanges or user_code.has_own_code(model)
    return feed.form._replace(most=feed.global_batch) if exchanges else feed.form


def one_step_per_call(model, feed):
    """Returns whether a call may have only one step, because the rows that workers exchange are unknown in advance."""
    exchanges = coupling_of(model).exchanges and is_between_workers(model.distribute_strategy)
    return exchanges and feed.global_batch is None


class Tried(NamedTuple):
    """What a model is tried on.

    Attributes:
        model: the model.
        x, y: nested tensors (B, ...), inputs and targets.
        y_pred: nested tensors (B, ...), the outputs for them; None where they could not be computed.
    """

    model: keras.Model
    x: Any
    y: Any
    y_pred: Any


def _find(model, feed):
    losses = [p for p, loss in enumerate(models.compiled_losses(model)) if not user_code.is_known(loss)]
    adds = user_code.adds_losses(model)
    own_metrics = [metric for metric in user_code.compiled_metrics(model) if not user_code.is_known(metric)]
    if not losses and not own_metrics and not adds:
        return Coupling(exchanges=user_code.calls_operation(model))
    with warnings.catch_warnings(), keras_over_all_replicas(model, Form(may_be_empty=False)), on_trial() as called:
        # What the user's code warns of, it warns of in the training.
        warnings.simplefilter("ignore")
        tried = _tried(model, feed)
        of_losses = _try_losses(tried, losses)
        of_metrics = _try_metrics(tried, own_metrics)
        coupled = [place for place, verdict in zip(losses, of_losses, strict=True) if verdict == Verdict.COUPLED]
        wrong = _try_added(tried, coupled) if adds else []
    workers = Workers.of(model.distribute_strategy)
    exchanges = bool(called) or Verdict.OWN in (*of_losses, *of_metrics) or user_code.calls_operation(model)
    *verdicts, exchanges = workers.broadcast([*map(float, (*of_losses, *of_metrics)), float(exchanges)])
    of_losses, of_metrics = verdicts[: len(losses)], verdicts[len(losses) :]
    if workers.is_chief:
        _log(model, zip(losses, of_losses, strict=True), zip(own_metrics, of_metrics, strict=True), wrong)
    pick = functools.partial(_with_verdict, of_metrics, own_metrics)
    coupled = _with_verdict(of_losses, losses, Verdict.COUPLED)
    metrics = pick(Verdict.COUPLED)
    return Coupling(coupled, metrics, pick(Verdict.ROWS), bool(exchanges or coupled or metrics))


def _with_verdict(verdicts, items, verdict):
    return tuple(item for item, found in zip(items, verdicts, strict=True) if found == verdict)


def _tried(model, feed):
    x, y, _ = keras.utils.unpack_x_y_sample_weight(sample_batch(feed))
    try:
        count = trial.rows_of(x)
        y_pred, _, _ = _forward(model, x, y, (0, count), training=False)
    except Exception:
        y_pred = None
    return Tried(model, x, y, y_pred)


def _forward(model, x, y, bounds, *, training):
    """Computes the outputs, the losses that layers add, and the loss of a `compute_loss` of the model's own.

    It leaves the model's variables as they are.

    Returns:
        (outputs, dict: layer → what it adds as a replica with these rows, the same for `compute_loss` or None).
    """
    first, last = bounds
    rows = trial.rows_between(first, last, trial.rows_of(x))
    x, y = trial.sliced(x, first, last), trial.sliced(y, first, last)
    with rows_are(rows), keras.StatelessScope():
        y_pred = models.call(model, x, training=training)
        added = {}
        for layer in (model, *models.layers(model)):
            losses = added_losses().get(id(layer), ())
            if losses:
                added[layer.name] = sum(float(tf.reduce_sum(loss) * rows.share(loss.dtype)) for loss in losses)
        own = None
        if models.has_own(model, "compute_loss"):
            loss = tf.convert_to_tensor(models.compute_loss(model, x, y, y_pred, None, training=training))
            own = float(tf.reduce_sum(loss) * (1 if loss.shape.rank else rows.share(loss.dtype)))
    return y_pred, added, own


def _try_losses(tried, places):
    if not places:
        return []
    if tried.y_pred is None or not trial.can_be_tried((tried.y, tried.y_pred)):
        return [Verdict.UNKNOWN] * len(places)
    losses = models.compiled_losses(tried.model)
    try:
        inputs = models.loss_inputs(tried.model, tried.y, tried.y_pred)
    except Exception:
        return [Verdict.UNKNOWN] * len(places)
    return [trial.try_loss(losses[place], *inputs[place]) for place in places]


def _try_metrics(tried, metrics):
    if not metrics:
        return []
    if tried.y_pred is None or not trial.can_be_tried((tried.y, tried.y_pred)):
        return [Verdict.UNKNOWN] * len(metrics)
    inputs = {id(metric): parts for metric, *parts in models.compiled_metrics(tried.model, tried.y, tried.y_pred)}
    return [trial.try_metric(metric, *inputs[id(metric)]) for metric in metrics]


def _try_added(tried, coupled):
    """Returns what adds a loss that is no mean over rows: names of layers, and "compute_loss"."""
    model, x, y, y_pred = tried
    if y_pred is None or not trial.can_be_tried((x, y)):
        return []
    count = trial.rows_of(x)
    training = not user_code.depends_on_training(model)
    losses = models.compiled_losses(model)
    # These are computed from all rows, so they need not add up here.
    known = [_zero if place in coupled else loss for place, loss in enumerate(losses)]
    forward = functools.partial(_forward, model, x, y, training=training)
    try:
        with models.losses_replaced(model, known) if losses else contextlib.nullcontext():
            with on_trial() as called:
                whole, again = (_added_by(*forward((0, count))) for _ in range(2))
            first = count // 3
            parts = [_added_by(*forward(bounds)) for bounds in ((0, first), (first, count))]
    except Exception:
        return []
    if called or any(abs(whole[name] - again.get(name, 0.0)) > 1e-6 * abs(whole[name]) for name in whole):
        return []
    near = {name: abs(whole[name] - sum(part.get(name, 0.0) for part in parts)) for name in whole}
    return [name for name, gap in near.items() if gap > 1e-4 * abs(whole[name]) + 1e-9]


def _zero(y_true, y_pred, sample_weight=None):
    return tf.zeros([])


def _added_by(y_pred, added, own):
    del y_pred
    # Layers come first, because their losses are a part of the model's.
    return added if own is None else {**added, "compute_loss": own}


def _log(model, losses, metrics, wrong):
    names = [loss.name for loss in models.compiled_losses(model)]
    for place, verdict in losses:
        if verdict == Verdict.COUPLED:
            say(f"loss {names[place]!r} couples rows, so each replica computes it from the rows of all replicas.")
        elif verdict == Verdict.UNKNOWN:
            warn(
                f"loss {names[place]!r} could not be tried on a few rows, so it counts as a mean over rows. If rows "
                f"depend on each other in it, it is wrong. {_CURE}."
            )
    for metric, verdict in metrics:
        if verdict == Verdict.COUPLED:
            say(f"metric {metric.name!r} does not add up over replicas, so each updates it with the rows of all.")
        elif verdict == Verdict.UNKNOWN:
            warn(
                f"metric {metric.name!r} could not be tried on a few rows, so its variables are summed over the "
                "replicas unless their aggregation says otherwise. If its state is no sum, its result is wrong."
            )
    for name in wrong:
        what = "the model's compute_loss" if name == "compute_loss" else f"the loss that layer {name!r} adds"
        warn(
            f"{what} is no mean over rows, but each replica computes it from its own rows, so it differs from one "
            f"device's. {_CURE}."
        )
