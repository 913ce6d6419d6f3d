"""Measures inside the step where a worker's time goes, and how many bytes it gives to the reduction."""

import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tfdist.gradients.factors import gathered_of, summed_of, tensors_of
from tfdist.gradients.wire import narrowed_type
from tfdist.internals.access import tpu
from tfdist.internals.patches.optimizers import accumulation_steps

UNKNOWN = math.nan


class Work(NamedTuple):
    """The measurements of one step.

    Attributes:
        ready: the time at which this worker's gradients were ready, before their reduction: a float64 scalar or NaN.
        bytes_reduced: the bytes that each replica gave to the reduction: a number or a float64 scalar.
    """

    ready: tf.Tensor | float
    bytes_reduced: tf.Tensor | float


class Measured(NamedTuple):
    """The measurements of one call on this worker; NaN stands for what could not be measured.

    Attributes:
        sums: float64 (3,), sums over the steps of the call: seconds of waiting for input; seconds from there until this
            worker's gradients were ready; bytes that each replica gave to the reduction.
        sparse: the variables whose gradients are `tf.IndexedSlices`, by path.
        steps_finite: a function () → the steps of the call before the first one whose loss on this worker's replicas
            was not finite. It is called only after a call with such a step.
    """

    sums: tf.Tensor
    sparse: tuple[str, ...]
    steps_finite: Callable[[], int]


class Clock:
    """Reads the time inside the step, which takes a few percent of the step for the smallest models."""

    def now(self, after=()):
        """Returns the time in seconds, float64, once (nested, per-replica) values are computed."""
        # A batch may lack a part, such as its weights.
        parts = [part for part in tf.nest.flatten(after, expand_composites=True) if part is not None]
        # The clock is no resource, so under tf.function only a control dependency orders it.
        with tf.control_dependencies(parts), tf.device("CPU:0"):
            return tf.timestamp()

    def ready(self, gradients):
        """Returns the time at which the gradients of this worker's replicas are ready; NaN on GPUs and TPUs.

        Nothing waits for the clock, so it delays no reduction. The host runs ahead of a GPU and does not know when
        gradients are ready, so its time would mean nothing. The program of a TPU has no clock.

        Args:
            gradients: list of per-replica values or None.
        """
        parts = tf.nest.flatten([tensors_of(gradient) for gradient in gradients], expand_composites=True)
        on_host = tpu.program_graph() is None and not any("GPU" in part.device for part in parts)
        return self.now(parts) if parts and on_host else UNKNOWN

    def add(self, sums, asked, arrived, work):
        """Returns `Measured.sums` with one more step."""
        seconds = [arrived - asked, work.ready - arrived, work.bytes_reduced]
        return sums + tf.stack([tf.convert_to_tensor(value, tf.float64) for value in seconds])

    def total(self, sums, more):
        """Adds a step's measurements without reading them, because a device may still be computing them."""
        return sums + more


class StoppedClock(Clock):
    """A `Clock` for deterministic kernels, with which TensorFlow reads no time: it only adds up bytes."""

    def now(self, after=()):
        """Returns no time."""
        return UNKNOWN


class NoClock:
    """A stand-in for `Clock` if no callback uses the measurements: it adds nothing to the step."""

    def now(self, after=()):
        """Returns no time."""
        return UNKNOWN

    def ready(self, gradients):
        """Returns no time."""
        return UNKNOWN

    def add(self, sums, asked, arrived, work):
        """Returns the sums as they are."""
        return sums

    def total(self, sums, more):
        """Returns the sums as they are."""
        return sums


class Traffic:
    """The bytes that each replica gives to the reduction of a step.

    Args:
        replicas: the number of replicas; a single one reduces nothing.
        wire: None, or the floating type to which wider ones are rounded for the exchange.

    Attributes:
        sparse: the variables whose gradients are `tf.IndexedSlices`, by path, once the step is traced.
        known: the result of `summed_and_gathered`; None if that depends on the rows.
    """

    def __init__(self, replicas, wire=None):
        self._replicas = replicas
        self._wire = wire
        self._noted = {}
        self.sparse = ()
        self.known = None

    def of(self, gradients, variables, optimizer):
        """Returns the bytes of a step: a float, or a float64 scalar if they depend on the rows.

        Args:
            gradients: one replica's tensors, `tf.IndexedSlices` or None.
            variables: the trainable variables, in the same order.
            optimizer: the Keras optimizer; one that accumulates gradients reduces only dense ones, every few steps.
                None where every step reduces.
        """
        if self._replicas == 1:
            return 0.0
        steps = accumulation_steps(optimizer)
        pairs = [(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
        if steps:
            return sum(math.prod(variable.shape) * self._itemsize(gradient) for gradient, variable in pairs) / steps
        sparse = [
            getattr(variable, "path", "a tensor")
            for gradient, variable in pairs
            if isinstance(gradient, tf.IndexedSlices)
        ]
        self.sparse = tuple(dict.fromkeys([*self.sparse, *sparse]))
        both = self.summed_and_gathered([gradient for gradient, _ in pairs])
        self.known = None if any(map(tf.is_tensor, both)) else both
        return sum(both)

    def summed_and_gathered(self, gradients):
        """Returns the bytes of a step by their collective: numbers, or float64 scalars if they depend on the rows.

        Args:
            gradients: as for `of`.

        Returns:
            (bytes that are summed over the replicas, bytes that are gathered on every replica).
        """
        return self._bytes(map(summed_of, gradients)), self._bytes(map(gathered_of, gradients))

    def _bytes(self, lists):
        return sum((_elements(part) * self._itemsize(part) for parts in lists for part in parts), 0.0)

    def _itemsize(self, tensor):
        return narrowed_type(tensor.dtype, self._wire).size

    def note(self, number, gradients, variables):
        """Records gradients that a user's own `train_step` sums over the replicas; each replica records the same.

        Args:
            number: which sum of the step it is, so that tracing the step again counts nothing twice.
            gradients, variables: as for `of`.
        """
        total = self.of(gradients, variables, None)
        # A tensor cannot be kept, because it may belong to another graph.
        self._noted[number] = UNKNOWN if tf.is_tensor(total) else total

    @property
    def noted(self):
        """The bytes of all recorded gradients, a number."""
        return sum(self._noted.values(), 0.0)


def _elements(tensor):
    known = tensor.shape.num_elements()
    return tf.cast(tf.size(tensor, tf.int64), tf.float64) if known is None else float(known)
