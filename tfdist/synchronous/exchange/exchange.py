"""The ways in which gradients are exchanged between the replicas: as wholes, or some of them by their factors."""

import contextlib
import dataclasses
import math

import tensorflow as tf

from tfdist.gradients.factors import EVERY, Factors, Listener
from tfdist.gradients.updates import sum_gradients
from tfdist.internals.access.collectives import sums_bfloat16
from tfdist.internals.patches import products
from tfdist.process.errors import UsageError


def wire_type(options, strategy):
    """Returns the type to which gradients are rounded for the exchange; None for their own type.

    Args:
        options: the `StepOptions`.
        strategy: the `tf.distribute.Strategy`; a single replica exchanges nothing, so it rounds nothing.

    Raises:
        ValueError: the strategy cannot exchange that type.
    """
    if strategy.num_replicas_in_sync == 1 or options.compression == "none":
        return None
    wire = tf.as_dtype(options.compression)
    if wire == tf.bfloat16 and not sums_bfloat16(strategy):
        raise UsageError(
            "compression is 'bfloat16', which NCCL's all-reduce among the GPUs of one process does not take. Use "
            "compression='float16', or leave it out: within one machine there are few bytes to save."
        )
    return wire


@dataclasses.dataclass(frozen=True)
class AllReduce:
    """Every gradient is summed over the replicas as a whole.

    Attributes:
        wire: the type to which gradients are rounded for the exchange; None for their own type.
        sparse: tuple of (place among the trainable variables, rows of its gradient), as in `sparse.filled`.
        one_step: whether the sizes of sparse gradients are unknown in advance, so that a call must have only one step:
            within a call, TensorFlow's collectives between processes expect one shape per tensor.
        alike: whether every replica has the same number of rows in every step, so that nothing needs to be filled up.
    """

    wire: tf.DType | None = None
    sparse: tuple[tuple[int, int], ...] = ()
    one_step: bool = False
    alike: bool = False

    def reported(self):
        """Returns a context, to be entered around `strategy.run`, in which Keras reports what `recording` records."""
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def recording(self, variables):
        """Yields what computes the gradients of one replica; its loss is to be computed while the context is entered.

        Yields:
            An object with a method `gradients(tape, loss)` → one gradient for each variable, and an attribute `uses` as
            that of `factors.Listener`.
        """
        yield PlainTape(variables)

    def reduce(self, gradients, variables):
        """Sums gradients over the replicas, in replica context, as `sum_gradients` does."""
        return sum_gradients(gradients, variables, self.wire)

    def describe(self, gradients, variables):
        """Returns a line that states how the gradients are exchanged; None if that is as usual."""


class PlainTape:
    """Computes gradients as wholes."""

    def __init__(self, variables):
        self._variables = variables
        self.uses = {}

    def gradients(self, tape, loss):
        """Returns what `tape.gradient` returns."""
        return tape.gradient(loss, self._variables)


@dataclasses.dataclass(frozen=True)
class FactorExchange(AllReduce):
    """The gradients of some weights are exchanged by their factors, the others are summed as wholes.

    Attributes:
        chosen: the weights whose factors are exchanged, as in `factors.Listener`.
        asked: the value of the option `exchange`, for messages.
    """

    chosen: str | tuple[tuple[int, tuple[int, ...]], ...] = EVERY
    asked: str = "factors"

    def reported(self):
        """Returns a context in which Keras reports the products of weights."""
        return products.audible()

    @contextlib.contextmanager
    def recording(self, variables):
        """Yields a `factors.Listener`."""
        # Made where it is used, because factors belong to the traced function that computes them.
        listener = Listener(variables, self.wire, self.chosen, self.alike)
        with listener.listening():
            yield listener

    def describe(self, gradients, variables):
        """Returns a line that states how many gradients are exchanged as factors."""
        sizes = [math.prod(variable.shape) for variable in variables]
        by_factors = [isinstance(gradient, Factors) for gradient in gradients]
        if not any(by_factors):
            reason = "are faster" if self.asked == "auto" else "were found"
            return f"exchange={self.asked}: every gradient is all-reduced, because no factors {reason}."
        share = sum(size for size, is_one in zip(sizes, by_factors, strict=True) if is_one) / sum(sizes)
        return (
            f"exchange={self.asked}: {sum(by_factors)} of {len(sizes)} gradients ({share:.0%} of their elements) are "
            "exchanged as factors, the others are all-reduced."
        )
