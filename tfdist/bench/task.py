"""Makes what all contenders train: a model from the same weights, on the same batches, with the same optimizer."""

import dataclasses
import importlib

import keras
import numpy as np
import tensorflow as tf

from tfdist import data, models
from tfdist.bench.config import BenchConfig
from tfdist.data.source import Source
from tfdist.data.sources.arrays import MemoryReader, from_arrays
from tfdist.process.errors import UsageError


@dataclasses.dataclass(frozen=True)
class BenchTask:
    """A training on one number of replicas.

    Attributes:
        config: a `BenchConfig`.
        strategy: the `tf.distribute.Strategy`.
        source: the `Source` of global batches; all of them have the same number of rows.
        arrays: (x, y) of all rows in that order, if they are in memory; otherwise None.
    """

    config: BenchConfig
    strategy: tf.distribute.Strategy
    source: Source
    arrays: tuple[np.ndarray, np.ndarray] | None

    @property
    def global_batch(self):
        """Rows of a step over all replicas."""
        return self.source.global_batch

    def make_model(self, **compile_arguments):
        """Makes the compiled model in the strategy's scope, with the same weights each time."""
        keras.utils.set_random_seed(self.config.seed)
        with self.strategy.scope():
            model = self._build()
            model.compile(
                self.config.optimizer, loss="sparse_categorical_crossentropy", metrics=[], **compile_arguments
            )
        return model

    def _build(self):
        module, colon, function = self.config.model.partition(":")
        if colon:
            model = getattr(importlib.import_module(module), function)()
            if not isinstance(model, keras.Model):
                raise UsageError(f"--model={self.config.model} returned {type(model).__name__}. Return a keras.Model.")
            return model
        images, _ = self.source.element_spec
        return models.build(self.config.model, classes=self.source.classes, input_shape=tuple(images.shape[1:]))

    def dataset(self):
        """Returns the global batches without end, as a plain `tf.data.Dataset` for contenders without tfdist."""
        if self.arrays is None:
            return self.source.dataset().repeat()
        rows = tf.data.Dataset.from_tensor_slices(self.arrays)
        return rows.batch(self.global_batch, drop_remainder=True).repeat().prefetch(tf.data.AUTOTUNE)

    def first_batch(self):
        """Returns (x, y) of the first global batch."""
        return next(iter(self.source.dataset()))


def make_task(config, strategy):
    """Makes the `BenchTask` of a `BenchConfig` on a strategy.

    Rows in memory keep one order, without shuffling, so that contenders without tfdist read the same batches from a
    pipeline as a user would write it. All contenders read other data from tfdist's source.
    """
    batch = config.replica_batch * strategy.num_replicas_in_sync
    options = {"data_dir": config.data_dir}
    if config.dataset == "synthetic":
        kind = "vectors" if len(config.input_shape) == 1 else "images"
        rows = max(config.rows, batch)
        options = {"kind": kind, "shape": config.input_shape, "classes": config.classes, "rows": rows, "pool": rows}
    source = data.load(
        config.dataset, split="train", global_batch=batch, seed=config.seed, drop_remainder=True, **options
    )
    if not isinstance(source.reader, MemoryReader):
        return BenchTask(config, strategy, source, None)
    batches = [tuple(part.numpy() for part in both) for both in source.dataset()]
    arrays = tuple(map(np.concatenate, zip(*batches, strict=True)))
    ordered = from_arrays(*arrays, global_batch=batch, shuffle=False, name=source.name, classes=source.classes)
    return BenchTask(config, strategy, ordered, arrays)
