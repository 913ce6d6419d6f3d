"""Where a worker's time goes within a call, and how many bytes it gives to the reduction: measured inside the step."""

import math
from typing import NamedTuple

import tensorflow as tf

from tfdist.gradients.factors import gathered_of, summed_of, tensors_of
from tfdist.gradients.wire import narrowed_type
from tfdist.internals.patches.optimizers import accumulation_steps

UNKNOWN = math.nan


class Work(NamedTuple):
    """What a step tells of itself.

    Attributes:
        ready: the time at which this worker's gradients were there, before their reduction: a float64 scalar or NaN.
        bytes_reduced: how many bytes each replica gave to the reduction: a number or a float64 scalar.
    """

    ready: object
    bytes_reduced: object


class Measured(NamedTuple):
    """What a call measured on this worker; NaN stands for what could not be.

    Attributes:
        sums: float64 (3,), sums over the steps of the call: seconds of waiting for input; seconds from there until this
            worker's gradients were ready; bytes that each replica gave to the reduction.
        sparse: the variables whose gradients are `tf.IndexedSlices`, by path.
    """

    sums: object
    sparse: tuple[str, ...]


class Clock:
    """Reads the time inside the step. On the smallest of models, that takes some hundredths of the step."""

    def now(self, after=()):
        """Gives the time in seconds, float64, once (nested, per-replica) values are there."""
        # A batch may lack something, such as its weights.
        there = [part for part in tf.nest.flatten(after, expand_composites=True) if part is not None]
        # Under tf.function nothing but a dependency orders the clock, which is no resource.
        with tf.control_dependencies(there), tf.device("CPU:0"):
            return tf.timestamp()

    def ready(self, gradients):
        """Gives the time at which the gradients of this worker's replicas are there; NaN on GPUs.

        Nothing waits for the clock, so it delays no reduction. The host of a GPU hands work on and runs ahead: it does
        not know when gradients are there, and what it would say is no measure of anything.

        Args:
            gradients: list of per-replica values or None.
        """
        parts = tf.nest.flatten([tensors_of(gradient) for gradient in gradients], expand_composites=True)
        return UNKNOWN if not parts or any("GPU" in part.device for part in parts) else self.now(parts)

    def add(self, sums, asked, arrived, work):
        """Gives `Measured.sums` with a step more."""
        seconds = [arrived - asked, work.ready - arrived, work.bytes_reduced]
        return sums + tf.stack([tf.convert_to_tensor(value, tf.float64) for value in seconds])

    def total(self, sums, more):
        """Adds what a step measured; it is not read, for a device may still be at work on it."""
        return sums + more


class StoppedClock(Clock):
    """Stands in for a `Clock` with deterministic kernels, where TensorFlow reads no time; it adds bytes up."""

    def now(self, after=()):
        """Gives no time."""
        return UNKNOWN


class NoClock:
    """Stands in for a `Clock` where nobody listens: it leaves nothing in the step."""

    def now(self, after=()):
        """Gives no time."""
        return UNKNOWN

    def ready(self, gradients):
        """Gives no time."""
        return UNKNOWN

    def add(self, sums, asked, arrived, work):
        """Gives the sums as they are."""
        return sums

    def total(self, sums, more):
        """Gives the sums as they are."""
        return sums


class Traffic:
    """What each replica gives to the reduction of a step.

    Args:
        replicas: how many there are; one alone reduces nothing.
        wire: None, or the floating type in which wider ones cross the replicas.

    Attributes:
        sparse: the variables whose gradients are `tf.IndexedSlices`, by path, once the step is traced.
        known: what `ways` gave of it; None where that depends on the rows.
    """

    def __init__(self, replicas, wire=None):
        self._replicas = replicas
        self._wire = wire
        self._noted = {}
        self.sparse = ()
        self.known = None

    def of(self, gradients, variables, optimizer):
        """Gives the bytes of a step: a float, or a float64 scalar where it depends on the rows.

        Args:
            gradients: one replica's tensors, `tf.IndexedSlices` or None.
            variables: the trainable variables, in the same order.
            optimizer: the Keras optimizer: one that accumulates gradients reduces every so many steps, and dense ones.
        """
        if self._replicas == 1:
            return 0.0
        steps = accumulation_steps(optimizer)
        pairs = [(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
        if steps:
            return sum(math.prod(variable.shape) * self._itemsize(gradient) for gradient, variable in pairs) / steps
        sparse = [variable.path for gradient, variable in pairs if isinstance(gradient, tf.IndexedSlices)]
        self.sparse = tuple(dict.fromkeys([*self.sparse, *sparse]))
        ways = self.ways([gradient for gradient, _ in pairs])
        self.known = None if any(map(tf.is_tensor, ways)) else ways
        return sum(ways)

    def ways(self, gradients):
        """Gives the bytes of a step by the way they go: numbers, or float64 scalars where they depend on the rows.

        Args:
            gradients: as for `of`.

        Returns:
            (bytes that are summed over the replicas, bytes that every replica gets as they are).
        """
        return self._bytes(map(summed_of, gradients)), self._bytes(map(gathered_of, gradients))

    def _bytes(self, lists):
        return sum((_elements(part) * self._itemsize(part) for parts in lists for part in parts), 0.0)

    def _itemsize(self, tensor):
        return narrowed_type(tensor.dtype, self._wire).size

    def note(self, gradients, variables, optimizer):
        """Notes what a `train_step` of the user's own gives to an optimizer; each replica notes the same."""
        total = self.of(gradients, variables, optimizer)
        # A tensor of a graph that may be another's cannot be kept.
        self._noted[tuple(variable.path for variable in variables)] = UNKNOWN if tf.is_tensor(total) else total

    @property
    def noted(self):
        """The bytes of all that was noted, a number."""
        return sum(self._noted.values(), 0.0)


def _elements(tensor):
    known = tensor.shape.num_elements()
    return tf.cast(tf.size(tensor, tf.int64), tf.float64) if known is None else float(known)
