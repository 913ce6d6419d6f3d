"""The data that a user gives to `fit` → a source of global batches."""

import dataclasses
import functools
import types
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfdist.data.source import Source, make_source
from tfdist.data.sources.arrays import RowReader
from tfdist.data.sources.batches import Batches
from tfdist.data.sources.shards import Shards
from tfdist.feeding import checks
from tfdist.internals.access import data_adapters, pipelines
from tfdist.internals.access.tracing import as_written
from tfdist.process.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Input:
    """A source, and the division of its batches into epochs.

    Attributes:
        source: a `Source` or `Batches`.
        steps: steps in an epoch; None for all batches of the data.
        hooks: functions to call when an epoch begins or ends, and when reading stops.
        endless: whether the data are known to have no end.
        wraps: whether an epoch that is longer than the data goes on in their next pass, where Keras would end it.
        first_rows: None, or a function that returns some of the first rows without consuming them.
        peek: None, or a function (number) → at most that many of the first rows, or None, which leaves the data and
            their order as they are.
        is_repeatable: whether these are sure to be the same in every process.
        is_one_pass: whether the data can be read only once, as a generator.
    """

    source: Source | Batches
    steps: int | None = None
    hooks: data_adapters.Hooks = dataclasses.field(default_factory=data_adapters.Hooks)
    endless: bool = False
    wraps: bool = False
    first_rows: Callable[[], Any] | None = None
    peek: Callable[[int], Any] | None = None
    is_repeatable: bool = False
    is_one_pass: bool = False

    @property
    def is_read_by_threads(self):
        """Whether Keras' threads read ahead of the pipeline: two pipelines at once would share their batches."""
        return self.hooks.stop is not data_adapters.nothing


class ArrayRows(RowReader):
    """Rows of nested arrays of any kind that Keras takes, converted at first use.

    Args:
        arrays: nested arrays, tensors (also sparse and ragged ones) or None.
        rows: number of their rows.
    """

    def __init__(self, arrays, rows):
        self.rows = rows
        self._arrays = arrays

    @functools.cached_property
    def _rows(self):
        # Lifted out of the function being traced, as in `MemoryReader`.
        with tf.init_scope(), tf.device("CPU:0"):
            return data_adapters.as_rows(self._arrays)

    def decode(self, items):
        """Picks the rows with the numbers `items`."""
        return data_adapters.pick(self._rows, items)

    def tensors(self):
        """Returns all rows, nested tensors (rows, ...) or None; None for the whole if any part is ragged or sparse."""
        parts = keras.tree.flatten(self._rows)
        return self._rows if all(part is None or isinstance(part, tf.Tensor) for part in parts) else None


def make_input(
    x, y=None, sample_weight=None, *, batch_size=None, steps=None, shuffle=False, class_weight=None, name="x"
):
    """Makes an `Input` from what Keras' `fit`, `evaluate` or `predict` take, or from a `Source`.

    Args:
        x: a `Source`, `Shards`, nested arrays, a `tf.data.Dataset`, one that a strategy has distributed, a
            `keras.utils.PyDataset` or a generator.
        y, sample_weight: nested arrays or None; None if x contains them.
        batch_size: rows of a global batch, for arrays; 32 by default.
        steps: steps in an epoch, or None.
        shuffle: whether arrays are shuffled, anew in each epoch; "batch" for only within batches.
        class_weight: dict class → weight, or None.
        name: the argument's name, for messages.

    Raises:
        ValueError: arguments that contradict each other, or data of a kind that Keras does not understand.
    """
    x = data_adapters.undistributed(x, name)
    steps = checks.limit(steps, keras.config.max_steps_per_epoch(), "steps in an epoch")
    given = {"y": y, "sample_weight": sample_weight, "batch_size": batch_size}
    if isinstance(x, Shards):
        return Input(_checked(x, name, given | {"class_weight": class_weight}, None), steps)
    if isinstance(x, Source):
        source = _checked(x, name, given, class_weight)
        return Input(source, steps, wraps=True, first_rows=source.first_rows, peek=source.first_rows)
    checks.check_data(x, name)
    checks.check_lengths(x, y, sample_weight, name)
    adapter = data_adapters.make_adapter(
        x,
        y,
        sample_weight,
        batch_size=batch_size,
        steps_per_epoch=steps,
        shuffle=shuffle and not data_adapters.knows_its_order(x),
        class_weight=class_weight,
    )
    if found := data_adapters.arrays_of(adapter):
        arrays, rows, global_batch = found
        seed = (data_adapters.global_seed() or 0) % 2**32
        # With "batch" Keras shuffles within each batch, which leaves the rows of every global batch the same.
        order = {"global_batch": global_batch, "seed": seed, "shuffle": bool(shuffle) and shuffle != "batch"}
        source = make_source(name, ArrayRows(arrays, rows), **order)
        return Input(source, steps, first_rows=source.first_rows, peek=source.first_rows)
    source = Batches(name, adapter.get_tf_dataset(), adapter.num_batches)
    # Data other than a `tf.data.Dataset` may yield each row only once.
    is_dataset = isinstance(x, tf.data.Dataset)
    peek = functools.partial(data_adapters.first_batch, adapter, x)
    about = {
        "endless": data_adapters.is_endless(x),
        "first_rows": functools.partial(_first_batch, source, x) if is_dataset else None,
        "peek": lambda count: peek(),
        "is_repeatable": is_dataset and pipelines.is_repeatable(x),
        "is_one_pass": isinstance(x, types.GeneratorType),
    }
    return Input(source, steps, data_adapters.hooks_of(adapter), **about)


def _first_batch(source, dataset):
    source.iterators += 1
    return next(iter(dataset), None)


def _checked(source, name, given, class_weight):
    for argument, value in given.items():
        if value is not None:
            raise UsageError(
                f"{name} is a tfdist Source, which already has its {argument}. Leave {argument} out, or give it to "
                "tfdist.data instead."
            )
    if class_weight is None:
        return source
    weigh = data_adapters.class_weight_function(class_weight)
    return source.map(as_written(lambda batch, seeds: weigh(*batch)))
