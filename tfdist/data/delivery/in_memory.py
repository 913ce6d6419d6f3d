"""Batches of rows in memory: the compiled step picks them itself, without an input pipeline.

For a small step, a pipeline costs more than the step: its threads compete for the cores that compute, and handing over
a batch takes longer than picking its rows. A GPU picks from a copy in its own memory.

Delete this when a `tf.data` pipeline of rows in memory costs a small step nothing.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import tensorflow as tf

from tfdist.data.delivery.delivery import Places, to_replicas
from tfdist.data.delivery.share import cut

# Other types have no kernel on GPUs that picks rows; int32 stays in the host's memory, and the host picks it.
_ON_GPUS = (tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.int64, tf.bool)


class RowsOfCall(NamedTuple):
    """The input of one call of a compiled step: consecutive batches of one pass over the data.

    Attributes:
        rows: nested tensors (rows, ...) or None: all rows of the data.
        order: (rows,), the order of the pass.
        first: a scalar of its type, the place in `order` where the first batch begins.
        size: rows of a batch: such a scalar where the last batch may have fewer, or an int where all batches have that
            many, so that their shapes are known.
    """

    rows: Any
    order: tf.Tensor
    first: tf.Tensor
    size: tf.Tensor | int

    def items(self, step):
        """Returns the numbers of the rows of the call's batch number `step`, a scalar: int64 (B,)."""
        kind = self.order.dtype
        first = self.first + tf.cast(step, kind) * self.size
        if isinstance(self.size, int):
            # No slice: XLA would treat the place where a call begins as a constant, and compile again for each place.
            items = tf.gather(self.order, first + tf.range(self.size, dtype=kind))
            # XLA may know the shape, but Keras must not, because it would then weight the losses of several outputs
            # differently.
            return tf.compat.v1.placeholder_with_default(items, [None])
        return tf.cast(self.order[first : tf.minimum(first + self.size, tf.size(self.order, kind))], tf.int64)

    @property
    def open_spec(self):
        """Nested specs of this tuple, for any number of rows in any number of batches."""
        return RowsOfCall(*(open_specs(part) for part in self))


@dataclasses.dataclass(frozen=True)
class RowPicker:
    """A `Taker` that makes shares of `RowsOfCall`.

    Attributes:
        places: the worker's `Places`.
        gpu: None, or the name of the GPU that has a copy of the rows, for its single replica.
    """

    places: Places
    gpu: str | None = None
    may_end: ClassVar[bool] = False

    def read(self, strategy, batches, step):
        """Returns (batches, step): the rows are in memory already."""
        del strategy
        return batches, step

    def share(self, strategy, element):
        """Picks the rows of each replica."""
        batches, step = element
        replicas, first, own, size = self.places
        # Nothing on the host may be read from a GPU, because that would wait for all its work.
        with tf.device("CPU:0"):
            items = batches.items(step)
            shares = [cut(items, replicas, first + place, size) for place in range(own)]
        picked = [share._replace(batch=pick_rows(batches.rows, share.batch, self.gpu)) for share in shares]
        return to_replicas(strategy, tuple(picked))

    def next(self, strategy, batches, step):
        """Returns (None, a function that picks the rows): there is always a next batch."""
        return None, lambda: self.share(strategy, (batches, step))


class RowReading:
    """An endless `Reading` of rows in memory.

    Args:
        plan: a `Plan`.
        rows: nested tensors (rows, ...) or None.
        places, gpu: as in `RowPicker`.
        epoch, step: where to begin.
    """

    def __init__(self, plan, rows, places, gpu, epoch, step):
        self.taker = RowPicker(places, gpu)
        self._plan = plan
        self._rows = _copied(rows, gpu)
        # A loop on a GPU carries int32 in the host's memory, and int64 in that of the device.
        self._kind = tf.int32 if gpu else tf.int64
        with tf.device("CPU:0"):
            self._size = tf.constant(plan.global_batch, self._kind)
        self._begin_epoch(epoch, step)

    @property
    def spec(self):
        """The nested specs of a call's argument."""
        return self._call(self._size).open_spec

    @property
    def element_spec(self):
        """The nested specs of what the taker reads."""
        return self.spec, tf.TensorSpec([], tf.int64)

    def calls(self, steps):
        """Yields (`RowsOfCall`, number of steps) for the next `steps` steps: one for each pass over the data."""
        for count in self._within_epochs(steps):
            yield self._call(self._size), count

    def even_calls(self, steps):
        """Yields the same as `calls`, with batches of one size: a smaller last batch of a pass gets its own call."""
        for count in self._within_epochs(steps, even=True):
            first = self._first
            size = min(self._plan.global_batch, self._plan.rows - first)
            yield self._call(size), count

    def _call(self, size):
        with tf.device("CPU:0"):
            return RowsOfCall(self._rows, self._order, tf.constant(self._first, self._kind), size)

    @property
    def _first(self):
        """The place in the order where the next batch begins."""
        return self._step * self._plan.global_batch

    def _within_epochs(self, steps, even=False):
        """Yields numbers of steps that lie within one epoch each, and moves on by that number after each.

        Args:
            steps: the sum of the numbers.
            even: whether a smaller last batch of an epoch gets a number of its own.
        """
        while steps:
            if self._step == self._plan.steps:
                self._begin_epoch(self._epoch + 1, 0)
            left = self._plan.steps - self._step
            if even and left > 1 and self._plan.steps * self._plan.global_batch > self._plan.rows:
                left -= 1
            count = min(steps, left)
            yield count
            self._step += count
            steps -= count

    def _begin_epoch(self, epoch, step):
        self._epoch, self._step = epoch, step
        with tf.device("CPU:0"):
            self._order = tf.constant(self._plan.order(epoch), self._kind)


def may_be_on_gpu(rows, most_bytes):
    """Returns whether a GPU can pick from nested tensors (rows, ...) or None, of which it gets a copy."""
    parts = list(filter(_is_on_gpu, tf.nest.flatten(rows)))
    size = sum(part.shape.num_elements() * part.dtype.size for part in parts)
    return all(part.dtype in _ON_GPUS for part in parts) and size <= most_bytes


def _copied(rows, gpu):
    if gpu is None:
        return rows
    with tf.device(gpu):
        return tf.nest.map_structure(lambda part: tf.identity(part) if _is_on_gpu(part) else part, rows)


def _is_on_gpu(part):
    return part is not None and part.dtype != tf.int32


def pick_rows(rows, items, gpu=None):
    """Returns the rows with the numbers `items`, int64 (B,), of nested tensors (rows, ...) or None: (B, ...).

    Args:
        rows, items: as above.
        gpu: None, or the GPU that has a copy of the rows, except for int32.
    """

    def pick(part):
        if part is None:
            return None
        if gpu is None:
            return tf.gather(part, items)
        with tf.device(gpu if _is_on_gpu(part) else "CPU:0"):
            return tf.gather(part, items)

    return tf.nest.map_structure(pick, rows)


def open_specs(rows):
    """Returns the `tf.TensorSpec`s of nested tensors (rows, ...) or None, for any number of rows."""

    def open_spec(part):
        return None if part is None else tf.TensorSpec([None] * bool(part.shape.rank) + part.shape[1:], part.dtype)

    return tf.nest.map_structure(open_spec, rows)
