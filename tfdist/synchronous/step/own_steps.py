"""Gradients of a user's own `train_step`: those of all rows, wherever the user's code gets them."""

import contextlib
import functools

import tensorflow as tf

from tfdist.gradients import apply_gradients
from tfdist.gradients.building import build_if_needed
from tfdist.gradients.updates import sum_gradients, weighted_by_rows
from tfdist.internals.access import models
from tfdist.internals.access.collectives import sum_over_replicas
from tfdist.internals.access.dependence import note_sums
from tfdist.internals.access.lineage import Lineage, as_mean, described, lineage_is
from tfdist.internals.access.replica import current_rows
from tfdist.internals.patches import optimizers, tapes
from tfdist.process.errors import UsageError
from tfdist.synchronous.exchange.choice import say_once


class OwnSteps:
    """What a model's own `train_step` calls, made to compute over all replicas.

    Args:
        model: a `keras.Model`.
        replicas: their number.
        traffic: the `measurements.Traffic` of the step.
    """

    def __init__(self, model, replicas, traffic):
        self._say = functools.partial(say_once, model, explains_difference=True)
        self._several = replicas > 1
        self._traffic = traffic

    @contextlib.contextmanager
    def gradients_are_global(self, wire):
        """Makes tapes give the gradient of all rows, and optimizers apply it once; enter it around `strategy.run`.

        Args:
            wire: None, or the floating type to which wider numbers are rounded for the exchange.
        """
        self._reduce = functools.partial(self._reduce_noted, wire)
        with optimizers.apply_is(functools.partial(self._apply, wire)):
            if not self._several:
                yield
                return
            with tapes.tapes_sum_over_replicas(), optimizers.replicas_can_update_alone():
                yield

    def entered(self):
        """Returns the context of one replica's step, to enter in replica context."""
        if not self._several:
            return contextlib.nullcontext()
        return tapes.own_step_is(tapes.OwnStep(self._reduce, self._say))

    def _reduce_noted(self, wire, number, parts, variables):
        self._traffic.note(number, parts, variables)
        return sum_gradients(parts, wire=wire)

    def _apply(self, wire, optimizer, gradients, variables):
        """Replaces `optimizer.apply`."""
        build_if_needed(optimizer, variables)
        step, gradients = tapes.current_own_step(), list(gradients)
        known = [gradient for gradient in gradients if gradient is not None]
        if step is not None and (predicate := step.local_predicate()) is not None:
            raise UsageError(
                f"train_step calls optimizer.apply in a branch that {described(predicate.op)} chooses, which each "
                "replica computes from its own rows, so some replicas would apply and others not. Compute it from "
                "tfdist.global_mean, tfdist.global_sum or the gradients of a tape, which are the same on all replicas."
            )
        if step is not None and step.lineage.is_alike(*known):
            optimizers.apply_alike(optimizer, gradients, variables)
            return
        if step is not None and not step.is_here():
            raise UsageError(
                "train_step calls optimizer.apply in a branch, a loop or a function compiled by TensorFlow, with "
                "gradients of this replica's rows alone. Compute them by a tf.GradientTape outside it, where tfdist "
                "sums them over the replicas."
            )
        if step is not None and step.lineage.is_drawn(*known):
            optimizers.apply_alike(optimizer, _of_first_replica(gradients), variables)
            return
        if step is not None:
            step.say(
                "train_step gives optimizer.apply gradients that it has computed from this replica's rows beside those "
                "of a tape: they are weighted by rows and summed, which is exact for means over rows. Clip them, or "
                "choose by them, only behind tfdist.reduce_gradients(gradients), which returns the sums."
            )
        parts = [None if gradient is None else weighted_by_rows(gradient) for gradient in gradients]
        self._traffic.note(next(step.numbers) if step else 0, parts, variables)
        apply_gradients(optimizer, parts, variables, wire)


def lineage_of(model, batch, rows, say=None):
    """Returns the context in which the lineage of one replica's tensors is known, to enter in replica context.

    Args:
        model: a `keras.Model`.
        batch: nested tensors: the replica's rows.
        rows: its `Rows`.
        say: a function (line) that logs a line once; None for that of the model.
    """
    if model.distribute_strategy.num_replicas_in_sync == 1:
        return lineage_is(None)
    note_sums([rows.total])
    say = say or functools.partial(say_once, model, explains_difference=True)
    if tf.executing_eagerly():
        say(
            "run_eagerly=True: without a graph it is not known what the model's own step makes of the rows, so each "
            "scalar counts as a mean over rows. Use run_eagerly=False unless it is one."
        )
    return lineage_is(Lineage(batch, [rows.mine, rows.first], say))


def own_loss(model, loss, batch):
    """Returns the loss of a model's own `compute_loss` as one that counts by this replica's rows.

    Args:
        model: a `keras.Model`.
        loss: the result of `compute_loss` for this replica's rows.
        batch: nested tensors: these rows.
    """
    if not models.has_own(model, "compute_loss"):
        return loss
    rows = current_rows()
    with lineage_of(model, batch, rows):
        return as_mean(loss, rows, "compute_loss returns")


def _of_first_replica(gradients):
    """Returns the first replica's gradients: they differ by random numbers, which one device draws once."""
    is_first = tf.equal(tf.distribute.get_replica_context().replica_id_in_sync_group, 0)
    dense = [None if gradient is None else tf.convert_to_tensor(gradient) for gradient in gradients]
    own = [tf.where(is_first, gradient, tf.zeros_like(gradient)) for gradient in dense if gradient is not None]
    sums = iter(sum_over_replicas(own, "train_step"))
    return [None if gradient is None else next(sums) for gradient in dense]
