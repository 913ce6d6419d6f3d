"""Exchanges gradients between the replicas: by all-reduce, or by their factors where that costs less."""

import math
from typing import NamedTuple

import tensorflow as tf

from tfdist.gradients.factors import Factors, Listener
from tfdist.internals.access import models
from tfdist.internals.patches import optimizers
from tfdist.process.log import say


class Choice(NamedTuple):
    """How the gradients of a step are exchanged between the replicas.

    Attributes:
        factors: the weights whose factors are exchanged, as in `factors.Listener`.
        sparse: tuple of (place among the trainable variables, rows of its gradient), as in `sparse.filled`.
        one_step: whether the sizes of sparse gradients are unknown in advance, so that a call must have only one step:
            within a call, TensorFlow's collectives between processes expect one shape per tensor.
        alike: whether every replica has the same number of rows in every step, so that nothing needs to be filled up.
    """

    factors: str | tuple[tuple[int, tuple[int, ...]], ...] = ()
    sparse: tuple[tuple[int, int], ...] = ()
    one_step: bool = False
    alike: bool = False


NOTHING = Choice()


class Exchange:
    """The exchange of the gradients of a model's steps.

    Args:
        model: a compiled `keras.Model`.
        strategy: the `tf.distribute.Strategy`.
        options: the `StepOptions`.

    Attributes:
        options: the same.
        replicas: the number of replicas.
        wire: the type to which gradients are rounded for the exchange; None for their own type.
        between_workers: whether the replicas communicate over a network.
        surveys, chosen: dicts in which `survey` and `choice` keep their earlier results.
    """

    def __init__(self, model, strategy, options):
        self.options = options
        self.replicas = strategy.num_replicas_in_sync
        # A single replica exchanges nothing, so it rounds nothing.
        rounds = self.replicas > 1 and self.options.compression != "none"
        self.wire = tf.as_dtype(self.options.compression) if rounds else None
        self.between_workers = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        self.surveys = {}
        self.chosen = {}
        self._refusal = _why_no_factors(model)
        self._is_announced = False
        if self._refusal and self.options.exchange == "factors":
            say(f"exchange=factors has no effect because {self._refusal}: every gradient is all-reduced.")

    @property
    def may_use_factors(self):
        """Whether factors may be exchanged at all."""
        if self._refusal or self.replicas == 1:
            return False
        # Within one machine nothing crosses a network, so the all-reduce is cheaper.
        return self.options.exchange == "factors" or (self.options.exchange == "auto" and self.between_workers)

    def listener(self, variables, choice):
        """Returns the `Listener` of one replica; None if no factors are exchanged.

        Args:
            variables: the trainable variables.
            choice: a `Choice`.
        """
        return Listener(variables, self.wire, choice.factors, choice.alike) if self.may_use_factors else None

    def announce(self, gradients, variables):
        """Logs once how the gradients of a step, as `Step.gradients` returns them, are exchanged."""
        if self._is_announced or not self.may_use_factors:
            return
        self._is_announced = True
        sizes = [math.prod(variable.shape) for variable in variables]
        by_factors = [isinstance(gradient, Factors) for gradient in gradients]
        if not any(by_factors):
            reason = "are faster" if self.options.exchange == "auto" else "were found"
            say(f"exchange={self.options.exchange}: every gradient is all-reduced, because no factors {reason}.")
            return
        share = sum(size for size, is_one in zip(sizes, by_factors, strict=True) if is_one) / sum(sizes)
        say(
            f"exchange={self.options.exchange}: {sum(by_factors)} of {len(sizes)} gradients ({share:.0%} of their "
            "elements) are exchanged as factors, the others are all-reduced."
        )


def _why_no_factors(model):
    """Returns why factors cannot be exchanged; None if they can."""
    if model.run_eagerly:
        return "the model runs eagerly"
    if models.has_own(model, "train_step"):
        return "the model has a train_step of its own"
    if optimizers.accumulation_steps(getattr(model, "optimizer", None)):
        return "the optimizer accumulates gradients"
    return None
