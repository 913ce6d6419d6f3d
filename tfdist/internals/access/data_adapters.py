"""Keras' data adapters: how Keras reads the data that a user passes to `fit`."""

import functools
import types
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras.src.trainers.data_adapters import array_slicing, data_adapter_utils, get_data_adapter
from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter
from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter
from keras.src.trainers.data_adapters.tf_dataset_adapter import make_class_weight_map_fn
from keras.src.utils import rng_utils

from tfdist.internals.access import pipelines
from tfdist.process.errors import UsageError


def make_adapter(x, y, sample_weight, *, batch_size, steps_per_epoch, shuffle, class_weight):
    """Makes Keras' data adapter, with Keras' checks and messages."""
    return get_data_adapter(
        _strings_as_tensors(x),
        y,
        sample_weight=sample_weight,
        batch_size=batch_size,
        steps_per_epoch=steps_per_epoch,
        shuffle=shuffle,
        class_weight=class_weight,
    )


def knows_its_order(x):
    """Returns whether data have their own order, so that `shuffle` has no effect and makes Keras warn."""
    return isinstance(x, tf.data.Dataset | types.GeneratorType) or is_endless(x)


def is_endless(x):
    """Returns whether data are known to have no end."""
    if isinstance(x, tf.data.Dataset):
        return x.cardinality() == tf.data.INFINITE_CARDINALITY
    return isinstance(x, keras.utils.PyDataset) and x.num_batches is None


def arrays_of(adapter):
    """Returns the arrays behind an adapter of arrays in memory.

    Returns:
        (nested arrays x, (x, y) or (x, y, sample_weight), rows, global batch), or None for data of another kind.
    """
    if not isinstance(adapter, ArrayDataAdapter):
        return None
    # Tuples, because `tf.data` would stack the items of a list.
    return keras.tree.lists_to_tuples(adapter._inputs), adapter._num_samples, adapter.batch_size


def as_rows(arrays):
    """Converts nested arrays as Keras would: floats to Keras' float type; pandas' tables; SciPy's sparse matrices.

    Returns:
        The same nesting of what `pick` takes: `tf.Tensor`s (rows, ...), `tf.RaggedTensor`s, `SparseRows`, None.
    """
    return keras.tree.map_structure(_as_rows, arrays)


def _as_rows(array):
    if array is None:
        return None
    value = array_slicing.convert_to_sliceable(array, target_backend="tensorflow")
    if isinstance(value, array_slicing.TensorflowSparseWrapper):
        return SparseRows(tf.sparse.reorder(value.sparse))
    return value if isinstance(value, tf.RaggedTensor) else tf.convert_to_tensor(value)


def pick(rows, items):
    """Picks rows by number.

    Args:
        rows: nested, as `as_rows` returns them.
        items: the numbers of the rows, int64 (B,).

    Returns:
        Nested tensors (B, ...), dense, ragged or sparse.
    """

    def pick_one(part):
        if part is None:
            return None
        return part.pick(items) if isinstance(part, SparseRows) else tf.gather(part, items)

    return keras.tree.map_structure(pick_one, rows)


class SparseRows:
    """The rows of a `tf.SparseTensor`, in row-major order."""

    def __init__(self, sparse):
        # As ragged rows, which TensorFlow can pick by number. Keras' own conversion loses empty last rows before 3.15.
        row, cells = sparse.indices[:, 0], sparse.indices[:, 1:]
        self._cells = tf.RaggedTensor.from_value_rowids(cells, row, nrows=sparse.dense_shape[0])
        self._values = self._cells.with_values(sparse.values)
        self._shape = sparse.shape

    def pick(self, items):
        """Returns the rows with the numbers `items`, int64 (B,), as a `tf.SparseTensor` (B, ...)."""
        some = tf.gather(self._cells, items)
        indices = tf.concat([some.value_rowids()[:, tf.newaxis], some.values], axis=1)
        shape = [tf.size(items, tf.int64), *self._shape[1:]]
        return tf.SparseTensor(indices, tf.gather(self._values, items).values, tf.stack(shape))


def nothing() -> None:
    """Does nothing."""


class Hooks(NamedTuple):
    """The hooks of the owner of data.

    Attributes:
        on_epoch_begin, on_epoch_end: functions to call around an epoch.
        stop: a function to call when the data are not read any further.
    """

    on_epoch_begin: Callable[[], None] = nothing
    on_epoch_end: Callable[[], None] = nothing
    stop: Callable[[], None] = nothing


def hooks_of(adapter):
    """Returns an adapter's `Hooks`.

    Keras stops the threads behind a `PyDataset` at the end of each epoch, even if another epoch follows. tfdist reads
    batches ahead, so here the threads run until the data are not read any further.
    """
    if not isinstance(adapter, PyDatasetAdapter):
        return Hooks(adapter.on_epoch_begin, adapter.on_epoch_end)
    data = adapter.py_dataset
    return Hooks(data.on_epoch_begin, data.on_epoch_end, functools.partial(_stop, adapter))


def _stop(adapter):
    if adapter.enqueuer is None:
        return
    adapter.enqueuer.stop()
    if adapter.num_batches is not None:
        # These batches are left from the middle of a pass; the next pass begins with its first batch.
        adapter.enqueuer.ready_queue.queue.clear()


def first_batch(adapter, x):
    """Returns the first batch of data, or None where looking at it would change what is read later.

    Args:
        adapter: Keras' adapter of the data.
        x: the data.
    """
    if isinstance(x, keras.utils.PyDataset):
        return x[0] if x.num_batches else None
    if isinstance(x, tf.data.Dataset):
        return next(iter(x), None) if pipelines.is_pure(x) else None
    # Keras has taken the first batches of a generator to learn their shapes, and hands them out first.
    batches = getattr(adapter, "_first_batches", ())
    return batches[0] if batches else None


def class_weight_function(class_weight):
    """Returns a function of tensors x, y → (x, y, sample_weight)."""
    return make_class_weight_map_fn(class_weight)


def split_validation(x, y, sample_weight, fraction):
    """Splits off the last rows, and returns ((x, y, sample_weight) to train, the same to validate)."""
    return array_slicing.train_validation_split((_strings_as_tensors(x), y, sample_weight), validation_split=fraction)


def _strings_as_tensors(x):
    """Converts NumPy's arrays of strings to tensors, because Keras takes such arrays for numbers and fails."""

    def convert(value):
        is_array = isinstance(value, np.ndarray) and value.size
        return tf.constant(value) if is_array and isinstance(value.flat[0], str | bytes) else value

    return keras.tree.map_structure(convert, x)


def global_seed():
    """Returns the seed of `keras.utils.set_random_seed`, or None."""
    return rng_utils.get_random_seed()


def unpack(data):
    """Returns x, y, sample_weight of a tuple that `fit` takes as validation data."""
    return data_adapter_utils.unpack_x_y_sample_weight(data)


def undistributed(data, name):
    """Returns the global batches behind a data set that a strategy has distributed; other data as they are.

    Args:
        data: the data.
        name: the argument's name, for the message.

    Raises:
        ValueError: what is behind cannot be known.
    """
    if isinstance(data, tf.distribute.DistributedDataset):
        # The data set as it was before TensorFlow divided its batches.
        original = getattr(data, "_original_dataset", None)
        if isinstance(original, tf.data.Dataset):
            return original
        cure = "Give a tf.data.Dataset of global batches, or tfdist.data.from_function for a part a worker."
    elif isinstance(data, tf.distribute.DistributedIterator | tf.distribute.DistributedValues):
        cure = "Give what it was made of: a tf.data.Dataset of global batches, arrays, or a tfdist Source."
    else:
        return data
    raise UsageError(
        f"{name} is a {type(data).__name__}, already divided over replicas, so its global batches are unknown. {cure}"
    )
