"""Batches of rows that lie in memory: the compiled step picks them itself, with no input pipeline beside it.

Beside a small step a pipeline costs more than the step: its threads want the cores that compute, and handing over a
batch takes longer than picking its rows.
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfdist.data.share import Share, cut
from tfdist.internals.tracing import compiled


class Places(NamedTuple):
    """Which shares of a global batch are this worker's.

    Attributes:
        replicas: how many slices a global batch is cut into.
        first, own: the first slice that is this worker's, and how many are.
        size: None, or how many rows every share is to have; see `share.cut`.
    """

    replicas: int
    first: int
    own: int
    size: int | None


class Picks(NamedTuple):
    """What one call of a compiled step reads.

    Attributes:
        rows: nested tensors (rows, ...) or None: all rows of the data.
        items: int64 (n,), numbers of rows, batch after batch.
        bounds: int64 (steps + 1,), where in `items` each batch begins, and the last one ends.
        places: the worker's `Places`.
    """

    rows: Any
    items: tf.Tensor
    bounds: tf.Tensor
    places: Places

    def shares(self, step):
        """Gives a tuple of this worker's `Share`s of the call's batch number `step`, a scalar."""
        return _shares(self, tf.convert_to_tensor(step, tf.int64))

    @property
    def open_spec(self):
        """Nested specs of itself, for any number of rows in any number of batches."""
        return self._replace(rows=open_specs(self.rows), items=open_specs(self.items), bounds=open_specs(self.bounds))


class EvenBatches(NamedTuple):
    """Batches of one size, one after the other in an epoch, on one replica: their shapes are known before.

    Attributes:
        rows: nested tensors (rows, ...) or None: all rows of the data.
        order: int64 (rows,), the epoch's order.
        first: int64 scalar, where in `order` the first of them begins.
        size: the rows of each.
    """

    rows: Any
    order: tf.Tensor
    first: tf.Tensor
    size: int

    def share(self, step):
        """Gives the `Share` of the batch number `step`, an int64 scalar."""
        items = tf.slice(self.order, [self.first + step * self.size], [self.size])
        # XLA knows the shape, and Keras must not: it would weigh the losses of several outputs as it does nowhere else.
        items = tf.compat.v1.placeholder_with_default(items, [None])
        size = tf.constant(self.size, tf.int64)
        return Share(pick_rows(self.rows, items), size, size, tf.constant(0, tf.int64))


class BatchesInMemory:
    """Gives `Reading`s, each from the same place on.

    Args:
        plan: a `Plan`.
        rows: nested tensors (rows, ...) or None.
        places: the worker's `Places`.
        epoch, step: where to begin.
    """

    def __init__(self, plan, rows, places, epoch, step):
        self._arguments = plan, rows, places, epoch, step

    def __iter__(self):
        return Reading(*self._arguments)


class Reading:
    """An endless iterator over tuples of this worker's `Share`s, for whole calls too; see `BatchesInMemory`."""

    def __init__(self, plan, rows, places, epoch, step):
        self._plan = plan
        self._rows = rows
        self._places = places
        self._known = set()
        self._begin_epoch(epoch, step)

    def __iter__(self):
        return self

    def __next__(self):
        return self.picks(1).shares(0)

    def is_new_to(self, function):
        """Says, once for each function, that it has not read from here before."""
        is_new = function not in self._known
        self._known.add(function)
        return is_new

    def picks(self, steps):
        """Gives the `Picks` of the next so many steps, over the ends of epochs."""
        items, sizes = [], []
        for count in self._within_epochs(steps):
            bounds = self._bounds(count)
            items.append(self._order[bounds[0] : bounds[-1]])
            sizes.append(np.diff(bounds))
        ends = np.cumsum(np.concatenate([[0], *sizes]), dtype=np.int64)
        with tf.device("CPU:0"):
            return Picks(self._rows, tf.constant(np.concatenate(items)), tf.constant(ends), self._places)

    def even_batches(self, steps):
        """Yields (`EvenBatches`, how many) of the next so many steps; its place moves on when it is asked for more."""
        for count in self._within_epochs(steps, even=True):
            bounds = self._bounds(count)
            first, size = tf.constant(bounds[0]), int(bounds[1] - bounds[0])
            yield EvenBatches(self._rows, self._order_as_tensor, first, size), count

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
            if even and left > 1 and self._bounds(left)[-1] < (self._step + left) * self._plan.global_batch:
                left -= 1
            count = min(steps, left)
            yield count
            self._step += count
            steps -= count

    def _bounds(self, count):
        """Gives where in the epoch's order the next batches begin, and the last one ends: int64 (count + 1,)."""
        batches = np.arange(self._step, self._step + count + 1, dtype=np.int64)
        return np.minimum(batches * self._plan.global_batch, self._plan.rows)

    def _begin_epoch(self, epoch, step):
        self._epoch, self._step = epoch, step
        self._order = self._plan.order(epoch)
        self._as_tensor = None

    @property
    def _order_as_tensor(self):
        if self._as_tensor is None:
            with tf.device("CPU:0"):
                self._as_tensor = tf.constant(self._order)
        return self._as_tensor


def _shares_of(picks, step):
    items = picks.items[picks.bounds[step] : picks.bounds[step + 1]]

    replicas, first, own, size = picks.places
    shares = [cut(items, replicas, first + place, size) for place in range(own)]
    return tuple(share._replace(batch=pick_rows(picks.rows, share.batch)) for share in shares)


# Compiled also where the step is not: a batch takes many small operations.
_shares = compiled(_shares_of, reduce_retracing=True)


def pick_rows(rows, items):
    """Picks rows by number, int64 (B,), from nested tensors (rows, ...) or None: gives them (B, ...)."""
    return tf.nest.map_structure(lambda part: None if part is None else tf.gather(part, items), rows)


def open_specs(rows):
    """Gives the `tf.TensorSpec`s of nested tensors (rows, ...) or None, for any number of rows."""
    return tf.nest.map_structure(
        lambda part: None if part is None else tf.TensorSpec([None, *part.shape[1:]], part.dtype), rows
    )
