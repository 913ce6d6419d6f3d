"""Batches of rows that lie in memory: the compiled step picks them itself, with no input pipeline beside it.

Beside a small step a pipeline costs more than the step: its threads want the cores that compute, and handing over a
batch takes longer than picking its rows.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import tensorflow as tf

from tfdist.data.delivery.delivery import Places, to_replicas
from tfdist.data.delivery.share import cut


class RowsOfCall(NamedTuple):
    """What one call of a compiled step reads: batches of one pass over the data, one after the other.

    Attributes:
        rows: nested tensors (rows, ...) or None: all rows of the data.
        order: int64 (rows,), the order of the pass.
        first: int64 scalar, where in `order` the first batch begins.
        size: rows of a batch, an int64 scalar, where the last one may have fewer; or an int for batches that all have
            so many, whose shapes are known then.
    """

    rows: Any
    order: tf.Tensor
    first: tf.Tensor
    size: tf.Tensor | int

    def items(self, step):
        """Gives the numbers of the rows of the call's batch number `step`, an int64 scalar: int64 (B,)."""
        first = self.first + step * self.size
        if isinstance(self.size, int):
            # No slice: XLA would take where a call begins for a constant, and compile anew for each place in an epoch.
            items = tf.gather(self.order, first + tf.range(self.size, dtype=tf.int64))
            # XLA knows the shape, and Keras must not: it would weigh the losses of several outputs as it does nowhere
            # else.
            return tf.compat.v1.placeholder_with_default(items, [None])
        return self.order[first : tf.minimum(first + self.size, tf.size(self.order, tf.int64))]

    @property
    def open_spec(self):
        """Nested specs of itself, for any number of rows in any number of batches."""
        return RowsOfCall(*(open_specs(part) for part in self))


@dataclasses.dataclass(frozen=True)
class RowPicker:
    """Makes shares of `RowsOfCall`, as a `Taker`."""

    places: Places
    may_end: ClassVar[bool] = False

    def read(self, strategy, batches, step):
        """Reads nothing: the rows are there."""
        del strategy
        return batches, step

    def share(self, strategy, element):
        """Picks the rows of each replica."""
        batches, step = element
        items, (replicas, first, own, size) = batches.items(step), self.places
        shares = [cut(items, replicas, first + place, size) for place in range(own)]
        picked = [share._replace(batch=pick_rows(batches.rows, share.batch)) for share in shares]
        return to_replicas(strategy, tuple(picked))

    def next(self, strategy, batches, step):
        """Picks; there is always a next batch."""
        return None, lambda: self.share(strategy, (batches, step))


class RowReading:
    """An endless `Reading` of rows in memory.

    Args:
        plan: a `Plan`.
        rows: nested tensors (rows, ...) or None.
        places: the worker's `Places`.
        epoch, step: where to begin.
    """

    def __init__(self, plan, rows, places, epoch, step):
        self.taker = RowPicker(places)
        self._plan = plan
        self._rows = rows
        with tf.device("CPU:0"):
            self._size = tf.constant(plan.global_batch, tf.int64)
        self._begin_epoch(epoch, step)

    @property
    def spec(self):
        """The nested specs of what a call gets."""
        return self._call(self._size).open_spec

    @property
    def element_spec(self):
        """The nested specs of what the taker reads."""
        return self.spec, tf.TensorSpec([], tf.int64)

    def calls(self, steps):
        """Yields (`RowsOfCall`, how many steps) for the next so many steps: one for each pass over the data."""
        for count in self._within_epochs(steps):
            yield self._call(self._size), count

    def even_calls(self, steps):
        """Yields the same with batches of one size: a smaller last batch of a pass is alone."""
        for count in self._within_epochs(steps, even=True):
            first = self._first
            size = min(self._plan.global_batch, self._plan.rows - first)
            yield self._call(size), count

    def _call(self, size):
        with tf.device("CPU:0"):
            return RowsOfCall(self._rows, self._order, tf.constant(self._first, tf.int64), size)

    @property
    def _first(self):
        """Where in the order the next batch begins."""
        return self._step * self._plan.global_batch

    def _within_epochs(self, steps, even=False):
        """Yields numbers of steps, so many together, of one epoch each; after each the place moves on by it.

        Args:
            steps: how many.
            even: whether a smaller last batch of an epoch is to be alone.
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
            self._order = tf.constant(self._plan.order(epoch))


def pick_rows(rows, items):
    """Picks rows by number, int64 (B,), from nested tensors (rows, ...) or None: gives them (B, ...)."""
    return tf.nest.map_structure(lambda part: None if part is None else tf.gather(part, items), rows)


def open_specs(rows):
    """Gives the `tf.TensorSpec`s of nested tensors (rows, ...) or None, for any number of rows."""

    def open_spec(part):
        return None if part is None else tf.TensorSpec([None] * bool(part.shape.rank) + part.shape[1:], part.dtype)

    return tf.nest.map_structure(open_spec, rows)
