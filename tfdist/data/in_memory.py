"""Batches of rows that lie in memory: the compiled step picks them itself, with no input pipeline beside it.

Beside a small step a pipeline costs more than the step: its threads want the cores that compute, and handing over a
batch takes longer than picking its rows.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from tfdist.data.share import cut


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
        return self._replace(
            rows=tf.nest.map_structure(_open_spec, self.rows),
            items=_open_spec(self.items),
            bounds=_open_spec(self.bounds),
        )


class InMemory(Protocol):
    """A `Reader` of rows that may lie in memory as they are wanted."""

    def tensors(self):
        """Gives nested tensors (rows, ...) or None, from which `decode` does nothing but pick rows; else None."""


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
        self._epoch = epoch
        self._step = step
        self._order = plan.order(epoch)
        self._known = set()

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
        while steps:
            if self._step == self._plan.steps:
                self._epoch, self._step = self._epoch + 1, 0
                self._order = self._plan.order(self._epoch)
            count = min(steps, self._plan.steps - self._step)
            batches = np.arange(self._step, self._step + count + 1, dtype=np.int64)
            bounds = np.minimum(batches * self._plan.global_batch, self._plan.rows)
            items.append(self._order[bounds[0] : bounds[-1]])
            sizes.append(np.diff(bounds))
            self._step += count
            steps -= count
        ends = np.cumsum(np.concatenate([[0], *sizes]), dtype=np.int64)
        with tf.device("CPU:0"):
            return Picks(self._rows, tf.constant(np.concatenate(items)), tf.constant(ends), self._places)


# Compiled also where the step is not: a batch takes many small operations.
@tf.function(reduce_retracing=True)
def _shares(picks, step):
    items = picks.items[picks.bounds[step] : picks.bounds[step + 1]]

    def pick(share):
        return share._replace(batch=tf.nest.map_structure(lambda rows: _gather(rows, share.batch), picks.rows))

    replicas, first, own, size = picks.places
    return tuple(pick(cut(items, replicas, first + place, size)) for place in range(own))


def _gather(rows, items):
    return None if rows is None else tf.gather(rows, items)


def _open_spec(tensor):
    return None if tensor is None else tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)
