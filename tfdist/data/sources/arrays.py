"""Rows in memory: the user's arrays, and the digits that come with tfdist."""

import functools
from collections.abc import Callable
from importlib import resources
from typing import Any, Unpack

import numpy as np
import tensorflow as tf

from tfdist.data.delivery.in_memory import pick_rows
from tfdist.data.source import Plan, Source, SourceOptions, make_source
from tfdist.internals.access.tracing import as_written
from tfdist.options import DEFAULT_GLOBAL_BATCH
from tfdist.process.errors import UsageError
from tfdist.process.nearest import did_you_mean


class RowReader:
    """Rows that are read by number: any step can be read without those before it."""

    files: tuple[str, ...] = ()

    def global_batches(self, epoch: tf.Tensor | int, step: tf.Tensor | int, plan: Plan) -> tf.data.Dataset:
        """Returns row numbers, int64 (G,), batch after batch."""
        order = plan.permutation(epoch)
        size = plan.global_batch
        numbers = as_written(lambda s: order[s * size : tf.minimum((s + 1) * size, plan.rows)])
        return tf.data.Dataset.range(step, plan.steps).map(numbers)


class MemoryReader(RowReader):
    """Rows of nested arrays, read at first use.

    They are not read earlier, because the first tensor sets up TensorFlow's devices, and a source may be made before.
    """

    def __init__(self, rows: int, read: Callable[[], Any], finish: Callable[[Any], Any] | None = None) -> None:
        """Args:
        rows: number of rows that `read` will return.
        read: function () → nested arrays of shape (rows, ...).
        finish: None, or a function batch → batch whose results need not be stored (uint8 → float32).
        """
        self.rows = rows
        self._read = read
        self._finish = finish

    @functools.cached_property
    def _tensors(self) -> Any:
        # Lifted out of the function being traced, because arrays would be written into its graph, which is
        # limited to 2 GB.
        with tf.init_scope(), tf.device("CPU:0"):
            return tf.nest.map_structure(tf.constant, self._read())

    def decode(self, items: tf.Tensor) -> Any:
        """Picks the rows with the numbers `items`."""
        batch = pick_rows(self._tensors, items)
        return self._finish(batch) if self._finish else batch

    def tensors(self) -> Any:
        """Returns all rows, nested tensors (rows, ...); None if a batch is more than a choice of rows."""
        return None if self._finish else self._tensors


class ArrayReader(MemoryReader):
    """Rows of nested arrays that share their first dimension."""

    def __init__(self, arrays: Any) -> None:
        arrays = tf.nest.map_structure(np.asarray, arrays)
        if scalars := [array for array in tf.nest.flatten(arrays) if not array.ndim]:
            raise UsageError(f"arrays: {scalars[0].tolist()!r} has no rows. Give arrays of shape (rows, ...).")
        lengths = {len(array) for array in tf.nest.flatten(arrays)}
        if len(lengths) != 1:
            raise UsageError(f"arrays: the numbers of rows differ: {sorted(lengths)}. Give arrays of one length.")
        super().__init__(lengths.pop(), lambda: arrays)


def from_arrays(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    global_batch: int = DEFAULT_GLOBAL_BATCH,
    name: str = "arrays",
    **order: Unpack[SourceOptions],
) -> Source:
    """Makes a source of arrays in memory.

    Args:
        x, y, sample_weight: nested arrays of shape (rows, ...); y and sample_weight may be None.
        global_batch: rows of a step, over all replicas.
        name: its name in messages.
        **order: `seed`, `shuffle`, `drop_remainder`, `transform`, `classes`, `class_names` of `make_source`.

    Returns:
        A `Source` whose batches are x, (x, y) or (x, y, sample_weight).

    Example:
        ```python
        import numpy as np
        from tfdist import data

        x, y = np.random.rand(1000, 8, 8, 1), np.random.randint(10, size=1000)
        train = data.from_arrays(x[:800], y[:800], global_batch=64, seed=7)
        test = data.from_arrays(x[800:], y[800:], shuffle=False)
        ```
    """
    arrays: tuple[Any, ...] = (x,) if y is None else (x, y)
    if sample_weight is not None:
        arrays = (x, y, sample_weight)
    return make_source(name, ArrayReader(arrays), global_batch=global_batch, **order)


def digits(split: str = "train", *, global_batch: int = DEFAULT_GLOBAL_BATCH, **order: Unpack[SourceOptions]) -> Source:
    """Makes a source of the UCI handwritten digits.

    Images are float32 (8, 8, 1) in 0..1, labels int32 in 0..9. Of 1,797 images, every fifth one is in the
    test split: 1,438 to train, 359 to test. Source: E. Alpaydin and C. Kaynak, "Optical Recognition
    of Handwritten Digits", UCI Machine Learning Repository, 1998, doi:10.24432/C50P49, CC BY 4.0;
    its test file, here as 8-bit integers.

    Example:
        ```python
        from tfdist import data

        train, test = data.digits("train", global_batch=64), data.digits("test")
        images, labels = train.first_rows(8)
        ```
    """
    if split not in ("train", "test"):
        raise UsageError(f"digits: split is {split!r}. Use 'train' or 'test'.{did_you_mean(split, ('train', 'test'))}")
    with resources.files("tfdist.data.sources").joinpath("digits.npz").open("rb") as file:
        stored = np.load(file)
        images, labels = stored["images"], stored["labels"]
    test = np.arange(len(labels)) % 5 == 4
    chosen = test if split == "test" else ~test
    images = images[chosen, :, :, np.newaxis].astype(np.float32) / 16
    labels = labels[chosen].astype(np.int32)
    options: SourceOptions = {"classes": 10, "class_names": None, "shuffle": split == "train", **order}
    return from_arrays(images, labels, global_batch=global_batch, name=f"digits/{split}", **options)
