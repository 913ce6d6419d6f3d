"""How gradients cross the replicas: each one reduced, or by its factors where that costs less."""

import math
from typing import NamedTuple

import tensorflow as tf

from tfdist.gradients.factors import Factors, Listener
from tfdist.internals.access import models
from tfdist.internals.patches import optimizers
from tfdist.process.log import say


class Choice(NamedTuple):
    """What crosses the replicas in a step beside whole gradients.

    Attributes:
        factors: the weights whose gradients go by their factors, as in `factors.Listener`.
        sparse: tuple of (place among the trainable variables, rows of its gradient), as in `sparse.filled`.
        one_step: whether nobody knows before what sizes sparse gradients have, so that a call may have one step alone:
            within one, TensorFlow's collectives between processes know a tensor by one shape.
        alike: whether all batches have as many rows on every replica, so that nothing needs to be filled up.
    """

    factors: object = ()
    sparse: tuple = ()
    one_step: bool = False
    alike: bool = False


NOTHING = Choice()


class Exchange:
    """How the gradients of a model's steps go.

    Args:
        model: a compiled `keras.Model`.
        strategy: the `tf.distribute.Strategy`.
        options: the `StepOptions`.

    Attributes:
        options: the same.
        replicas: how many there are.
        wire: the type in which gradients cross the replicas; None for their own.
        between_workers: whether the replicas meet over a network.
        surveys, chosen: dicts for `exchange_choice`: what it has found and chosen before.
    """

    def __init__(self, model, strategy, options):
        self.options = options
        self.replicas = strategy.num_replicas_in_sync
        # One replica alone rounds nothing.
        rounds = self.replicas > 1 and self.options.compression != "none"
        self.wire = tf.as_dtype(self.options.compression) if rounds else None
        self.between_workers = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        self.surveys = {}
        self.chosen = {}
        self._refusal = _why_never(model)
        self._said = False
        if self._refusal and self.options.exchange == "factors":
            say(f"exchange=factors is left alone, for {self._refusal}: every gradient is reduced.")

    @property
    def listens(self):
        """Whether factors may be exchanged at all."""
        if self._refusal or self.replicas == 1:
            return False
        # Within one machine nothing crosses a network: there the all-reduce is the cheaper one.
        return self.options.exchange == "factors" or (self.options.exchange == "auto" and self.between_workers)

    def listener(self, variables, choice):
        """Gives the `Listener` of one replica; None where factors are left alone.

        Args:
            variables: the trainable variables.
            choice: a `Choice`.
        """
        return Listener(variables, self.wire, choice.factors, choice.alike) if self.listens else None

    def announce(self, gradients, variables):
        """Says once how the gradients of a step go: those that `Step.train` has, and their variables."""
        if self._said or not self.listens:
            return
        self._said = True
        sizes = [math.prod(variable.shape) for variable in variables]
        by_factors = [isinstance(gradient, Factors) for gradient in gradients]
        if not any(by_factors):
            reason = "are faster" if self.options.exchange == "auto" else "were found"
            say(f"exchange={self.options.exchange}: every gradient is reduced; no factors {reason}.")
            return
        share = sum(size for size, is_one in zip(sizes, by_factors, strict=True) if is_one) / sum(sizes)
        say(
            f"exchange={self.options.exchange}: {sum(by_factors)} of {len(sizes)} gradients ({share:.0%} of their "
            "elements) go by their factors, the others are reduced."
        )


def _why_never(model):
    """Says why factors are left alone; None where they can be had."""
    if model.run_eagerly:
        return "the model runs eagerly"
    if models.has_own(model, "train_step"):
        return "the model has a train_step of its own"
    if optimizers.accumulation_steps(getattr(model, "optimizer", None)):
        return "the optimizer accumulates gradients"
    return None
