"""How gradients cross the replicas: each one reduced, or by its factors where that costs less."""

import math
from typing import NamedTuple

import tensorflow as tf

from tfdist.config import COMPRESSIONS, EXCHANGES
from tfdist.gradients import cost
from tfdist.gradients.factors import Factors, Listener, narrowed_type
from tfdist.internals import models, optimizers
from tfdist.log import say

_ATTRIBUTE = "_tfdist_exchange"


class Wish(NamedTuple):
    """What the user wants.

    Attributes:
        exchange: "all_reduce", "factors" wherever they can be had, or "auto": where they cost less.
        compression: "none", or "bfloat16": wider floats are rounded to it while they cross the replicas.
    """

    exchange: str = "auto"
    compression: str = "none"


def settle(model, exchange, compression):
    """Keeps with the model how its gradients are exchanged.

    Args:
        model: a compiled `keras.Model`.
        exchange, compression: as in `Wish`; None for what was said before.

    Raises:
        ValueError: another wish.
    """
    given = {"exchange": (exchange, EXCHANGES), "compression": (compression, COMPRESSIONS)}
    for name, (value, choices) in given.items():
        if value is not None and value not in choices:
            raise ValueError(f"tfdist.fit: {name} is {value!r}. Use one of {', '.join(choices)}.")
    changed = {name: value for name, (value, _) in given.items() if value is not None}
    setattr(model, _ATTRIBUTE, wish_of(model)._replace(**changed))


def wish_of(model):
    """Gives the `Wish` that was settled."""
    return getattr(model, _ATTRIBUTE, Wish())


class Exchange:
    """Chooses, while a step is traced, the weights whose gradients are exchanged by their factors.

    Args:
        model: a compiled `keras.Model`.
        strategy: the `tf.distribute.Strategy`.
    """

    def __init__(self, model, strategy):
        wish = wish_of(model)
        self._wish = wish.exchange
        self._replicas = strategy.num_replicas_in_sync
        # The type in which gradients cross the replicas; None for their own. One replica alone rounds nothing.
        rounds = self._replicas > 1 and wish.compression != "none"
        self.wire = tf.as_dtype(wish.compression) if rounds else None
        self._several_workers = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        self._refusal = _why_never(model)
        self._said = False
        if self._refusal and self._wish == "factors":
            say(f"exchange=factors is left alone, for {self._refusal}: every gradient is reduced.")

    @property
    def listens(self):
        """Whether factors may be exchanged at all."""
        if self._refusal or self._replicas == 1:
            return False
        # Within one machine nothing crosses a network: there the all-reduce is the cheaper one.
        return self._wish == "factors" or (self._wish == "auto" and self._several_workers)

    def listener(self, variables, global_rows):
        """Gives the `Listener` of one replica for the trainable variables; None where factors are left alone.

        Args:
            variables: the trainable variables.
            global_rows: rows of a global batch; 0 where nobody knows.
        """
        if not self.listens:
            return None
        return Listener(variables, self.wire, lambda uses: self.choose(variables, uses, global_rows))

    def choose(self, variables, uses, global_rows):
        """Gives the places of the weights that are exchanged by their factors; the same on every replica.

        Args:
            variables: the trainable variables.
            uses: dict: place of a variable → list of its `factors.Use`s.
            global_rows: rows of a global batch; 0 where nobody knows.
        """
        rows = -(-global_rows // self._replicas)
        chosen = []
        for place, own in uses.items():
            variable = variables[place]
            size = math.prod(variable.shape) * narrowed_type(tf.as_dtype(variable.dtype), self.wire).size
            if self._wish == "factors" or cost.cheaper_by_factors(own, size, rows, self._replicas, cost.USUAL):
                chosen.append(place)
        return chosen

    def announce(self, gradients, variables):
        """Says once how the gradients of a step go: those that `Step.train` has, and their variables."""
        if self._said or not self.listens:
            return
        self._said = True
        sizes = [math.prod(variable.shape) for variable in variables]
        by_factors = [isinstance(gradient, Factors) for gradient in gradients]
        if not any(by_factors):
            reason = "cost less" if self._wish == "auto" else "were found"
            say(f"exchange={self._wish}: every gradient is reduced; no factors {reason}.")
            return
        share = sum(size for size, is_one in zip(sizes, by_factors, strict=True) if is_one) / sum(sizes)
        say(
            f"exchange={self._wish}: {sum(by_factors)} of {len(sizes)} gradients ({share:.0%} of their elements) go by "
            "their factors, the others are reduced."
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
