"""Programs whose operations are looked up in the registry of kernels: models, optimizers, deliveries, exchanges."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from support import gpu_kernels

import tfdist
from tfdist import data
from tfdist.assembly.assemble import make_optimizer
from tfdist.callbacks.desync import Digests
from tfdist.internals.access import collectives, gathering
from tfdist.internals.access.tracing import compiled
from tfdist.models.classification.resnet import resnet20
from tfdist.options.run import OPTIMIZERS, RunConfig
from tfdist.strategy.replicas import run_on_replicas

ROWS, CLASSES = 12, 3
_random = np.random.RandomState(0)
VECTORS = _random.rand(ROWS, 8).astype("float32")
IMAGES = _random.rand(ROWS, 8, 8, 3).astype("float32")
SEQUENCES = _random.rand(ROWS, 5, 4).astype("float32")
TOKENS = _random.randint(1, 9, (ROWS, 5)).astype("int32")
LABELS = (np.arange(ROWS) % CLASSES).astype("int32")
# Name → the devices of the strategy and how it reduces; the first CPU is the host.
STRATEGIES = {
    "one GPU": lambda: tf.distribute.OneDeviceStrategy("CPU:1"),
    "two GPUs": lambda: tf.distribute.MirroredStrategy(
        ["CPU:1", "CPU:2"], cross_device_ops=tf.distribute.NcclAllReduce()
    ),
    "two GPUs, collectives": lambda: tf.distribute.MirroredStrategy(["CPU:1", "CPU:2"]),
    "two GPUs, one reduces": lambda: tf.distribute.MirroredStrategy(
        ["CPU:1", "CPU:2"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    ),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A program to look up.

    Attributes:
        name: its name.
        trace: a function (strategy) → the graph of the program.
        strategy: one of `STRATEGIES`.
    """

    name: str
    trace: Callable[[tf.distribute.Strategy], Any]
    strategy: str = "two GPUs"

    def __str__(self):
        """Returns the name with that of the strategy."""
        return f"{self.name}, {self.strategy}"

    def look(self):
        """Returns the `Findings`."""
        keras.utils.set_random_seed(0)
        return gpu_kernels.look(self.trace(STRATEGIES[self.strategy]()))


def _softmax():
    return keras.layers.Dense(CLASSES, activation="softmax", dtype="float32")


def _mlp():
    return keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, activation="relu"), _softmax()]), VECTORS


def _convnet():
    layers = [
        keras.layers.Conv2D(4, 3, use_bias=False),
        keras.layers.BatchNormalization(),
        keras.layers.ReLU(),
        keras.layers.MaxPooling2D(),
        keras.layers.Dropout(0.1),
        keras.layers.Flatten(),
    ]
    return keras.Sequential([keras.Input((8, 8, 3)), *layers, _softmax()]), IMAGES


def _binary():
    return keras.Sequential([keras.Input((8,)), keras.layers.Dense(1, activation="sigmoid")]), VECTORS


def _lstm():
    return keras.Sequential([keras.Input((5, 4)), keras.layers.LSTM(3), _softmax()]), SEQUENCES


def _attention():
    inputs = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(9, 8)(inputs)
    x = keras.layers.LayerNormalization()(x + keras.layers.MultiHeadAttention(2, 4)(x, x))
    return keras.Model(inputs, _softmax()(keras.layers.GlobalAveragePooling1D()(x))), TOKENS


def _resnet20():
    return resnet20(CLASSES, (8, 8, 3)), IMAGES


MODELS = {"MLP": _mlp, "CNN": _convnet, "LSTM": _lstm, "attention": _attention, "ResNet-20": _resnet20}


def _arrays(x, y):
    return x, y


def _sgd(**options):
    return keras.optimizers.SGD(0.1, momentum=0.9, **options)


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What a model is compiled with.

    Attributes:
        optimizer: a function () → a Keras optimizer.
        loss: as Keras takes it.
        metrics: functions () → a metric.
        policy: the dtype policy of its layers.
        labels: the targets (rows, ...).
    """

    optimizer: Callable[[], Any] = _sgd
    loss: Any = "sparse_categorical_crossentropy"
    metrics: tuple[Callable[[], Any], ...] = (keras.metrics.SparseCategoricalAccuracy,)
    policy: str = "float32"
    labels: Any = dataclasses.field(default_factory=lambda: LABELS)


def _trained(make=_mlp, settings=None, *, deliver=_arrays, method="fit", **options):
    """Returns a function (strategy) → the graph of the first program of `fit`, `evaluate` or `predict`."""
    settings = settings or Compiled()

    def trace(strategy):
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(settings.policy)
        try:
            with strategy.scope():
                model, x = make()
                metrics = [metric() for metric in settings.metrics]
                model.compile(settings.optimizer(), settings.loss, metrics=metrics)
        finally:
            keras.config.set_dtype_policy(before)
        rows = deliver(x, settings.labels)
        given = rows if isinstance(rows, tuple) else (rows,)
        with gpu_kernels.stopped_before_running() as graphs:
            getattr(tfdist, method)(model, *given[: 1 if method == "predict" else 2], verbose=0, **options)
        return graphs[0]

    return trace


def _source(x, y):
    # Read through a pipeline, because of the transformation.
    return data.from_arrays(x, y, global_batch=6, transform=lambda batch, seeds: batch)


def _batches(x, y):
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(6)


def _batches_without_a_known_end(x, y):
    return _batches(x, y).filter(lambda x, y: True)


DELIVERIES = {
    "arrays": _arrays,
    "a source with a pipeline": _source,
    "tf.data": _batches,
    "tf.data without a known end": _batches_without_a_known_end,
}
_METRICS = (
    lambda: keras.metrics.SparseTopKCategoricalAccuracy(2),
    keras.metrics.SparseCategoricalCrossentropy,
    lambda: keras.metrics.MeanIoU(CLASSES, sparse_y_pred=False),
)
_METRICS_OF_TWO = (keras.metrics.AUC, keras.metrics.Precision, keras.metrics.Recall, keras.metrics.F1Score)


def _loss_scaled():
    return keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01))


def _contrastive(y, y_pred):
    """Couples the rows: each with every other one."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.range(tf.shape(y_pred)[0]), y_pred @ tf.transpose(y_pred))


def _digest(strategy):
    """Returns the graph of the comparison of weights."""
    with strategy.scope():
        model, _ = _convnet()
    return Digests(strategy).program_for(model.variables).get_concrete_function().graph


TYPES = (*gathering.CARRIED, *gathering.WIDER, *gathering.IN_PARTS)


def _sums_of_every_type(strategy):
    def on_replica():
        values = [tf.ones(shape, dtype) for dtype in (*gathering.CARRIED, tf.bfloat16) for shape in ([5, 2], [])]
        return collectives.sum_over_replicas(values)

    return compiled(lambda: run_on_replicas(strategy, on_replica)).get_concrete_function().graph


def _rows_of_every_type(strategy):
    def on_replica(*values):
        places, _ = gathering.places_by_counts(values, "test")
        encoded = [tf.reshape(gathering.encode(value), [-1, 2]) for value in values]
        return gathering.gather(values, places), collectives.gather_rows(encoded)

    specs = [tf.TensorSpec([None, 2], dtype) for dtype in TYPES]
    return compiled(lambda *values: run_on_replicas(strategy, on_replica, *values)).get_concrete_function(*specs).graph


def _optimizer(name):
    return make_optimizer(RunConfig(optimizer=name), None)


SETTINGS = {
    "accumulation": Compiled(functools.partial(_sgd, gradient_accumulation_steps=2)),
    "moving averages": Compiled(functools.partial(_sgd, use_ema=True, ema_overwrite_frequency=2)),
    "clipped norms": Compiled(functools.partial(_sgd, clipnorm=1.0)),
    "clipped global norm": Compiled(functools.partial(_sgd, global_clipnorm=1.0)),
    "clipped values": Compiled(functools.partial(_sgd, clipvalue=1.0)),
    "loss scale": Compiled(_loss_scaled, policy="mixed_float16"),
    "mixed_bfloat16": Compiled(policy="mixed_bfloat16"),
    "bfloat16": Compiled(policy="bfloat16"),
    "metrics": Compiled(metrics=_METRICS),
    "metrics of two classes": Compiled(
        loss="binary_crossentropy", metrics=_METRICS_OF_TWO, labels=(LABELS[:, np.newaxis] > 0).astype("float32")
    ),
    "a loss of all rows": Compiled(loss=_contrastive),
}


def _cases():
    for name, make in MODELS.items():
        yield Case(f"{name} with XLA", _trained(make, jit_compile="auto"), "one GPU")
        for strategy in ("one GPU", "two GPUs"):
            yield Case(name, _trained(make), strategy)
    for strategy in list(STRATEGIES)[2:]:
        yield Case("attention", _trained(_attention), strategy)
    yield Case("CNN, statistics of each replica", _trained(_convnet, sync_batchnorm=False))
    for name in OPTIMIZERS:
        yield Case(f"optimizer {name}", _trained(settings=Compiled(functools.partial(_optimizer, name))))
    for name, settings in SETTINGS.items():
        yield Case(name, _trained(_binary if settings.labels is not LABELS else _mlp, settings))
    for name, deliver in DELIVERIES.items():
        for strategy in ("one GPU", "two GPUs"):
            yield Case(f"fit on {name}", _trained(deliver=deliver), strategy)
            yield Case(f"evaluate on {name}", _trained(deliver=deliver, method="evaluate"), strategy)
    for strategy in ("one GPU", "two GPUs"):
        yield Case("predict", _trained(method="predict"), strategy)
    yield Case("compression float16", _trained(compression="float16"))
    yield Case("compression bfloat16", _trained(compression="bfloat16"), "two GPUs, collectives")
    for compression in ("none", "float16"):
        yield Case(f"factors, compression {compression}", _trained(exchange="factors", compression=compression))
    for strategy in list(STRATEGIES)[1:]:
        yield Case("digests of weights", _digest, strategy)
        yield Case("sums of every type", _sums_of_every_type, strategy)
        yield Case("rows of every type", _rows_of_every_type, strategy)


CASES = {str(case): case for case in _cases()}
