"""Finds before the first step which losses and metrics of a model need the rows of all replicas."""

import contextlib
import functools
import warnings
from typing import NamedTuple

import keras

from tfdist.data.delivery.share import Form
from tfdist.feeding.sample import sample_batch
from tfdist.internals.access import models, user_code, variables
from tfdist.internals.access.coupling import NAME, OF_LAYERS, Coupling, coupling_of
from tfdist.internals.access.kept import kept
from tfdist.internals.access.layer_trials import kept_apart
from tfdist.internals.access.replica import on_trial
from tfdist.process.log import say, warn
from tfdist.strategy.workers import Workers
from tfdist.synchronous.exchange.choice import is_between_workers
from tfdist.synchronous.step import trial
from tfdist.synchronous.step.added_losses import Added, forward, try_added
from tfdist.synchronous.step.joint_layers import Joint, LayerTrial
from tfdist.synchronous.step.step import keras_over_all_replicas
from tfdist.synchronous.step.trial import Finding

_CURE = "Compute it by tfdist.global_loss, or from tfdist.gather_rows, inside it"


def find_coupling(model, feed):
    """Tries a model's losses and metrics on some rows, once after each `compile`; all workers call it together.

    Keras' own are known, so only what a user has written is tried, and those of Keras' that may couple rows.

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


def _find(model, feed):
    losses = [p for p, loss in enumerate(models.compiled_losses(model)) if not user_code.is_known(loss)]
    metrics = [metric for metric in user_code.compiled_metrics(model) if not user_code.is_known(metric)]
    layers, coupling = user_code.adding_layers(model), find_joint_layers(model, feed)
    names_operation = user_code.calls_operation(model)
    if not _is_same_everywhere(model, len(losses), len(metrics), len(layers), models.has_own(model, "compute_loss")):
        return coupling
    if not losses and not metrics and not layers and not models.has_own(model, "compute_loss"):
        return coupling._replace(exchanges=coupling.exchanges or names_operation)
    with _on_trial(model) as called:
        found = _try(model, sample_batch(feed), losses, metrics, layers)
    exchanges = names_operation or bool(called) or Finding.OWN in (*found.losses, *found.metrics)
    workers = Workers.of(model.distribute_strategy)
    flat = workers.broadcast([*map(float, (*found.losses, *found.metrics, *found.layers)), float(exchanges)])
    of_losses, of_metrics = flat[: len(losses)], flat[len(losses) : len(losses) + len(metrics)]
    of_layers = flat[len(losses) + len(metrics) : -1]
    if workers.is_chief:
        names = [loss.name for loss in models.compiled_losses(model)]
        _log_losses([names[place] for place in losses], of_losses)
        _log_metrics([metric.name for metric in metrics], of_metrics)
        _log_layers([layer.name for layer in layers], of_layers, found.compute_loss_is_wrong)
    coupling = coupling._replace(
        losses=_with(Finding.COUPLED, losses, of_losses),
        metrics=_with(Finding.COUPLED, metrics, of_metrics),
        additive=_with(Finding.ROWS, metrics, of_metrics),
        layers=_with(Added.OF_ALL_ROWS, layers, of_layers),
    )
    parts = (coupling.exchanges, flat[-1], coupling.losses, coupling.metrics, coupling.layers)
    return coupling._replace(exchanges=any(map(bool, parts)))


def find_joint_layers(model, feed):
    """Tries a model's layers of the user's own, or along the rows, on some rows; all workers call it together.

    Args:
        model: a built `keras.Model`.
        feed: the `Feed` of the data.

    Returns:
        A `Coupling` that names layers alone; the chief's on every worker.
    """
    if model.distribute_strategy.num_replicas_in_sync == 1:
        return Coupling()
    return kept(model, OF_LAYERS, functools.partial(_find_layers, model, feed), models.compile_token(model))


def _find_layers(model, feed):
    layers = user_code.own_layers(model)
    if not _is_same_everywhere(model, len(layers), user_code.computes_itself(model)):
        return Coupling()
    if not layers and not user_code.computes_itself(model):
        return Coupling()
    x, _, _ = keras.utils.unpack_x_y_sample_weight(sample_batch(feed))
    found, called = [Joint.UNKNOWN] * (len(layers) + 1), []
    if trial.can_be_tried(x):
        with _on_trial(model) as called:
            of_layers, of_model = LayerTrial(model, layers).find(x)
        found = [*of_layers, of_model]
    workers = Workers.of(model.distribute_strategy)
    *of_layers, of_model, exchanges = workers.broadcast([*map(float, found), float(bool(called))])
    if workers.is_chief:
        _log_joint([layer.name for layer in layers], of_layers, of_model)
    always = _with(Joint.ALWAYS, layers, of_layers)
    joint = (*always, *_with(Joint.IN_TRAINING, layers, of_layers))
    return Coupling(joint=joint, always=always, exchanges=bool(exchanges or joint))


def _is_same_everywhere(model, *counts):
    """Returns whether all workers have as many things to try: otherwise they would wait for each other for ever."""
    workers = Workers.of(model.distribute_strategy)
    if workers.count == 1:
        return True
    mine = list(map(float, counts))
    chiefs = list(workers.broadcast(mine))
    _, (differ,) = workers.vote([0.0], [chiefs != mine])
    if differ:
        warn(
            "the workers' models differ in losses, metrics or layers of your own, so none of them is tried: it is not "
            "known whether they couple rows. Make the same model on every worker."
        )
    return not differ


@contextlib.contextmanager
def _on_trial(model):
    """Yields a list of the operations over the replicas that are called; the model's variables are left alone."""
    apart = kept_apart(variables.reached_from({"model": model}).variables.values())
    with (
        warnings.catch_warnings(),
        apart,
        keras_over_all_replicas(model, Form(may_be_empty=False)),
        on_trial() as called,
    ):
        # What the user's code warns of, it warns of in the training.
        warnings.simplefilter("ignore")
        yield called


def _with(verdict, items, verdicts):
    return tuple(item for item, found in zip(items, verdicts, strict=True) if found == verdict)


class Findings(NamedTuple):
    """What was found on this worker.

    Attributes:
        losses, metrics: a `Finding` for each.
        layers: an `Added` for each.
        compute_loss_is_wrong: whether a `compute_loss` of the model's own is no mean over rows.
    """

    losses: list[Finding]
    metrics: list[Finding]
    layers: list[Added]
    compute_loss_is_wrong: bool


def _try(model, batch, losses, metrics, layers):
    x, y, weights = keras.utils.unpack_x_y_sample_weight(batch)
    weights = weights if trial.can_be_tried(weights) else None
    try:
        y_pred, _, _ = forward(model, x, y, (0, trial.rows_of(x)), training=False)
    except Exception:
        y_pred = None
    of_losses, of_metrics = [Finding.UNKNOWN] * len(losses), [Finding.UNKNOWN] * len(metrics)
    if y_pred is not None and trial.can_be_tried((y, y_pred)):
        of_losses = _try_losses(model, (y, y_pred, weights), losses)
        of_metrics = _try_metrics(model, (y, y_pred, weights), metrics)
    if y_pred is None or not trial.can_be_tried((x, y)):
        return Findings(of_losses, of_metrics, [Added.ROWS] * len(layers), False)
    return Findings(of_losses, of_metrics, *try_added(model, x, y, _with(Finding.COUPLED, losses, of_losses), layers))


def _try_losses(model, given, places):
    losses = models.compiled_losses(model)
    try:
        inputs = models.loss_inputs(model, *given) if places else []
    except Exception:
        return [Finding.UNKNOWN] * len(places)
    # Keras weighs what a `call` returns itself, row by row.
    inputs = [each if user_code.weighs_itself(loss) else each[:2] for loss, each in zip(losses, inputs, strict=False)]
    return [trial.try_loss(losses[place], *inputs[place]) for place in places]


def _try_metrics(model, given, metrics):
    inputs = {id(metric): parts for metric, *parts in models.compiled_metrics(model, *given)}
    return [trial.try_metric(metric, *inputs[id(metric)]) for metric in metrics]


def _log_losses(names, verdicts):
    for name, verdict in zip(names, verdicts, strict=True):
        if verdict == Finding.COUPLED:
            say(f"loss {name!r} couples rows, so each replica computes it from the rows of all replicas.")
        elif verdict == Finding.UNKNOWN:
            warn(
                f"loss {name!r} could not be tried on a few rows, so it counts as a mean over rows. If rows depend on "
                f"each other in it, it is wrong. {_CURE}."
            )


def _log_metrics(names, verdicts):
    for name, verdict in zip(names, verdicts, strict=True):
        if verdict == Finding.COUPLED:
            say(f"metric {name!r} does not add up over replicas, so each updates it with the rows of all.")
        elif verdict == Finding.UNKNOWN:
            warn(
                f"metric {name!r} could not be tried on a few rows, so its variables are summed over the replicas "
                "unless their aggregation says otherwise. If its state is no sum, its result is wrong."
            )


def _log_layers(names, verdicts, compute_loss_is_wrong):
    wrong = ["the model's compute_loss"] if compute_loss_is_wrong else []
    for name, verdict in zip(names, verdicts, strict=True):
        if verdict == Added.OF_ALL_ROWS:
            say(f"the loss that layer {name!r} adds couples rows, so each replica computes it from the rows of all.")
        elif verdict == Added.WRONG:
            wrong.append(f"the loss that {name!r} adds")
    for what in wrong:
        warn(
            f"{what} is no mean over rows, but each replica computes it from its own rows, so it differs from one "
            f"device's. {_CURE}."
        )


def _log_joint(names, verdicts, of_model):
    when = {Joint.IN_TRAINING: "in training ", Joint.ALWAYS: ""}
    wrong = ["the model's own call"] if of_model in (*when, Joint.WRONG) else []
    for name, verdict in zip(names, verdicts, strict=True):
        if verdict in when:
            say(
                f"layer {name!r} couples rows in its outputs or its state, so {when[verdict]}each replica computes it "
                "from the rows of all."
            )
        elif verdict == Joint.WRONG:
            wrong.append(f"layer {name!r}")
    for what in wrong:
        warn(
            f"{what} couples rows in its outputs or a state, but each replica computes it from its own rows, so it "
            "differs from one device's. Compute it from tfdist.gather_rows, or in a layer whose inputs and outputs are "
            "the rows of the batch.",
            explains_difference=True,
        )
