"""The batches that a comparison trains on: a few rows of the user's data, cut anew for each case."""

import dataclasses
import itertools

import keras
import tensorflow as tf

from tfdist.data import order
from tfdist.data.delivery.share import count_rows
from tfdist.process.errors import UsageError

# Rows per replica of the even batch.
_ROWS_PER_REPLICA = 8


@dataclasses.dataclass(frozen=True)
class Case:
    """Batches of one size.

    Attributes:
        rows: rows of each batch.
        batch: a data set of only the first batch.
        batches: a data set of all batches.
        batch_reversed, batches_reversed: the same, with each batch's rows in reverse order.
    """

    rows: int
    batch: tf.data.Dataset
    batches: tf.data.Dataset
    batch_reversed: tf.data.Dataset
    batches_reversed: tf.data.Dataset

    def rows_of_replicas(self, replicas):
        """Returns the number of rows of each replica in a batch: a list."""
        bounds = [order.replica_bounds(self.rows, replicas, replica) for replica in range(replicas)]
        return [high - low for low, high in bounds]


def make_cases(data, *, replicas, steps):
    """Makes the cases: rows that the replicas divide, one row more, and fewer rows than replicas.

    Args:
        data: the data that `build_fn` returned.
        replicas: number of replicas.
        steps: batches in a case.

    Raises:
        ValueError: there are no rows.
    """
    rows = first_rows(data)
    count = int(count_rows(rows))
    if count == 0:
        raise UsageError("build_fn() returned data without rows. Return at least one.")
    even = _ROWS_PER_REPLICA * replicas
    return [_case(rows, count, size, steps) for size in (even, even + 1, replicas - 1)]


def first_rows(data):
    """Returns the arrays, or the first batch of a data set, as nested tensors; floats in Keras' float type."""
    if isinstance(data, tuple):
        # As in Keras, a list of arrays is several inputs, not one more dimension.
        data = keras.tree.lists_to_tuples(data)
        while data and data[-1] is None:
            data = data[:-1]
        batch = keras.tree.map_structure(tf.convert_to_tensor, data)
    else:
        batch = next(iter(data if isinstance(data, tf.data.Dataset) else data.dataset()))
    return tf.nest.map_structure(_as_keras_would, batch)


def _as_keras_would(part):
    return tf.cast(part, keras.config.floatx()) if part.dtype in (tf.float32, tf.float64) else part


def _case(rows, count, size, steps):
    batches = [[(step * size + row) % count for row in range(size)] for step in range(steps)]

    def dataset(some):
        return tf.data.Dataset.from_tensor_slices(_pick(rows, list(itertools.chain.from_iterable(some)))).batch(size)

    reverse = [batch[::-1] for batch in batches]
    return Case(size, dataset(batches[:1]), dataset(batches), dataset(reverse[:1]), dataset(reverse))


def _pick(rows, numbers):
    def pick(part):
        if isinstance(part, tf.SparseTensor):
            return tf.sparse.from_dense(tf.gather(tf.sparse.to_dense(part), numbers))
        return tf.gather(part, numbers)

    return tf.nest.map_structure(pick, rows)
