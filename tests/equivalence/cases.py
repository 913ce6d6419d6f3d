"""The table of the equivalence suite: what is trained, on how many replicas. One row is one distinct training.

A row is plain data and small functions, so that the same row runs in plain Keras, in tfdist on logical devices or real
workers, and, to compare, in stock Keras on replicas.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from equivalence.joint_states import joint_states
from equivalence.layer_states import layer_states
from equivalence.own_exchanges import add_own_exchanges
from equivalence.own_optimizers import add_own_optimizers
from equivalence.own_steps import add_own_steps

from tfdist.models.dropout import RowDropout
from tfdist.optimizers import LARS

WIDTH, CLASSES = 4, 3


@dataclasses.dataclass(frozen=True)
class Case:
    """One training.

    Attributes:
        name: what it tries.
        family: which part of the table it belongs to.
        replicas: on how many replicas it runs under Mirrored; on real workers always two.
        build: () → compiled model.
        data: () → (x, y) or (x, y, sample_weight) arrays, or anything else `fit` takes as x.
        fit: further arguments of `fit`.
        workers: whether it also runs on two real workers.
        precision: Keras' float type.
    """

    name: str
    family: str
    replicas: int
    build: Callable[[], keras.Model]
    data: Callable[[], Any]
    fit: dict[str, Any]
    workers: bool = False
    precision: str = "float64"

    @property
    def tolerance(self):
        """How far the weights may be apart: float32 rounds otherwise with another number of replicas."""
        return 1e-9 if self.precision == "float64" else 2e-5

    @property
    def promise(self):
        """The promise that the row keeps, if it is one of those in the README's table."""
        for word, number in _PROMISES.items():
            if word in self.name:
                return f"promise_{number:02}"
        return None


# What a row's name holds → the promise it keeps; the first that fits.
_PROMISES = {
    "200 steps": 2,
    "accumulation": 10,
    "ema_overwrite": 10,
    "clip": 3,
    "execution": 12,
    "batch: ": 5,
    "data: validation": 33,
    "data: ": 7,
    "train step": 9,
    "own compute loss": 9,
    "a function of one's own": 9,
    "AUC": 33,
    "IoU": 33,
    "BatchNormalization": 6,
}


def rows(count=29):
    """Returns x (count, WIDTH) and y (count,)."""
    x = np.random.RandomState(0).randn(count, WIDTH)
    return x, ((x.sum(1) > 0).astype("int32") + (x[:, 0] > 0.5)).astype("int32")


def regression(count=29):
    """Returns x (count, WIDTH) and y (count, 2)."""
    x, _ = rows(count)
    return x, np.stack([np.sin(x.sum(1)), x[:, 0] * x[:, 1]], axis=1)


def weights(count=29, columns=None):
    """Returns sample weights, some of them zero."""
    shape = (count,) if columns is None else (count, columns)
    return np.random.RandomState(1).choice([0.0, 0.5, 2.0], size=shape)


def mlp(optimizer=None, *, outputs=CLASSES, activation="softmax", hidden=(), kernel=None, **compile_options):
    """Builds and compiles a small MLP; `hidden` are layers put in its middle."""
    keras.utils.set_random_seed(11)
    model = keras.Sequential(
        [
            keras.Input((WIDTH,)),
            keras.layers.Dense(6, activation="tanh", **(kernel or {})),
            *[layer() for layer in hidden],
            keras.layers.Dense(outputs, activation=activation),
        ]
    )
    options = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"], **compile_options}
    model.compile(optimizer() if optimizer else keras.optimizers.SGD(0.3, momentum=0.9), **options)
    return model


def make_cases():
    """Returns every row of the table."""
    cases = []

    def add(family, name, build=mlp, data=rows, workers=False, **fit):
        replicas = 2 + len(cases) % 3
        cases.append(Case(f"{family}: {name}", family, replicas, build, data, {"batch_size": 8, **fit}, workers))

    _optimizers(add)
    _optimizer_options(add)
    _losses(add)
    _batch_sizes(add)
    _data(add)
    _layers(add)
    _models(add)
    _execution(add)
    _added_losses(add)
    _losses_of_rows(add)
    _tutorials(add)
    add_own_optimizers(add)
    add_own_steps(add)
    # Here, because they use the helpers of this module.
    from equivalence.coupled_cases import add_coupled, add_metric_of_a_variable, add_metrics

    add_coupled(add)
    add_metrics(add)
    layer_states(add, mlp, regression)
    joint_states(add, mlp, regression)
    add_own_exchanges(add)
    _large_batches(add)
    add_metric_of_a_variable(add)
    cases += [_in_float32(case) for case in cases if case.name in _SMOOTH]
    assert len({case.name for case in cases}) == len(cases)
    return cases


def _in_float32(case):
    return dataclasses.replace(case, name=f"float32, {case.name}", family="float32", precision="float32")


# Short and smooth enough for float32 to tell a fault from rounding.
_SMOOTH = (
    "optimizer: SGD",
    "optimizer: SGD + global_clipnorm",
    "optimizer: SGD + clipnorm + accumulation",
    "optimizer option: weight_decay",
    "optimizer option: use_ema",
    "optimizer option: LossScaleOptimizer",
    "loss: sum_over_batch_size, weights of rows, mask",
    "loss: mean_with_sample_weight, weights of elements",
    "batch: 5 rows",
    "batch: 12 rows",
    "batch: BatchNormalization, last batch of 1 row",
    "layer: BatchNormalization",
    "layer: LayerNormalization",
    "layer: Conv2D + MaxPooling2D",
    "layer: Conv2D + BatchNormalization",
    "model: two output",
    "model: own train step",
    "execution: jit_compile",
)


_RATES = {
    "SGD": 0.3,
    "RMSprop": 0.02,
    "Adam": 0.03,
    "AdamW": 0.03,
    "Adadelta": 5.0,
    "Adagrad": 0.2,
    "Adamax": 0.05,
    "Adafactor": 0.2,
    "Nadam": 0.03,
    "Ftrl": 0.3,
    "Lion": 0.01,
    "Lamb": 0.05,
}
_CLIPS = {"clipnorm": 0.1, "global_clipnorm": 0.1, "clipvalue": 0.02}


def _optimizers(add):
    for name, rate in _RATES.items():
        for clip in (None, *_CLIPS):
            for every in (None, 2):
                options = {} if clip is None else {clip: _CLIPS[clip]}
                if every:
                    options["gradient_accumulation_steps"] = every
                words = [name, *([clip] if clip else []), *(["accumulation"] if every else [])]
                add("optimizer", " + ".join(words), _with(name, rate, **options), workers=name in ("SGD", "Adam"))


def _with(name, rate, **options):
    return lambda: mlp(lambda: getattr(keras.optimizers, name)(rate, **options))


def _scaled(inner, **options):
    return lambda: mlp(lambda: keras.optimizers.LossScaleOptimizer(inner(), **options))


def _optimizer_options(add):
    schedule = keras.optimizers.schedules
    for name, options in {
        "momentum, nesterov": {"momentum": 0.9, "nesterov": True},
        "weight_decay": {"weight_decay": 0.05},
        "use_ema": {"use_ema": True, "ema_momentum": 0.7},
        "ema_overwrite_frequency": {"use_ema": True, "ema_momentum": 0.7, "ema_overwrite_frequency": 3},
        "use_ema + accumulation": {"use_ema": True, "ema_momentum": 0.7, "gradient_accumulation_steps": 3},
        "ema_overwrite_frequency + accumulation": {
            "use_ema": True,
            "ema_momentum": 0.7,
            "ema_overwrite_frequency": 2,
            "gradient_accumulation_steps": 3,
        },
        "loss_scale_factor": {"loss_scale_factor": 64.0},
        "loss_scale_factor + global_clipnorm": {"loss_scale_factor": 64.0, "global_clipnorm": 0.1},
        "accumulation over 5 + clipnorm + weight_decay": {
            "gradient_accumulation_steps": 5,
            "clipnorm": 0.2,
            "weight_decay": 0.05,
        },
    }.items():
        add("optimizer option", name, _with("SGD", 0.3, **options), workers=True)
    add("optimizer option", "AdamW, weight_decay + use_ema", _with("AdamW", 0.03, weight_decay=0.1, use_ema=True))
    add("optimizer option", "a schedule", lambda: mlp(lambda: keras.optimizers.Adam(schedule.CosineDecay(0.05, 9))))
    add("optimizer option", "LossScaleOptimizer", _scaled(lambda: keras.optimizers.SGD(0.3)), workers=True)
    grows = _scaled(lambda: keras.optimizers.Adam(0.03), dynamic_growth_steps=2)
    add("optimizer option", "LossScaleOptimizer that doubles its scale", grows, workers=True)
    inner = _scaled(lambda: keras.optimizers.SGD(0.3, gradient_accumulation_steps=2, global_clipnorm=0.1))
    add("optimizer option", "LossScaleOptimizer + accumulation + global_clipnorm", inner, workers=True)
    overwriting = _scaled(lambda: keras.optimizers.SGD(0.3, use_ema=True, ema_overwrite_frequency=2))
    add("optimizer option", "LossScaleOptimizer + ema_overwrite_frequency", overwriting)


def _large_batches(add):
    """The optimizer of tfdist, at the rates of a schedule with a warm-up."""
    warm = {"warmup_target": 30.0, "warmup_steps": 3}
    rate = keras.optimizers.schedules.CosineDecay(0.0, 9, **warm)
    lars = functools.partial(LARS, rate, momentum=0.9, weight_decay=0.01)
    add("optimizer option", "LARS, weight_decay + a cosine after a warm-up", functools.partial(mlp, lars))


def _losses(add):
    for reduction in ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum"):
        rate = 0.01 if reduction == "sum" else 0.1
        for weighted in (None, "rows", "elements"):
            for masked in (False, True):
                words = [reduction, *([f"weights of {weighted}"] if weighted else []), *(["mask"] if masked else [])]
                add(
                    "loss",
                    ", ".join(words),
                    _sequence_model(reduction, rate, masked),
                    _sequences(weighted),
                    workers=masked or weighted == "rows",
                )
    for name in ("MeanAbsoluteError", "Huber", "LogCosh", "CosineSimilarity", "Poisson", "KLDivergence"):
        activation = "softplus" if name in ("Poisson", "KLDivergence") else "linear"
        add("loss", name, _regressor(name, activation), _positive if activation == "softplus" else regression)
    add("loss", "BinaryFocalCrossentropy", _regressor("BinaryFocalCrossentropy", "sigmoid"), _binary)
    add("loss", "CategoricalHinge", _regressor("CategoricalHinge", "linear"), _binary)
    add(
        "loss",
        "a function of one's own, a value a row",
        lambda: _own_loss(lambda t, p: keras.ops.mean((t - p) ** 2, -1)),
        regression,
    )
    add(
        "loss",
        "a function of one's own, a scalar",
        lambda: _own_loss(lambda t, p: keras.ops.mean((t - p) ** 2)),
        regression,
        workers=True,
    )
    add("loss", "class_weight", class_weight={0: 0.3, 1: 2.0, 2: 1.0}, workers=True)
    add("loss", "sample_weight", data=lambda: (*rows(), weights()), workers=True)
    add(
        "loss",
        "weighted_metrics",
        lambda: mlp(weighted_metrics=["accuracy", keras.metrics.SparseCategoricalCrossentropy(name="ce")]),
        lambda: (*rows(), weights()),
    )


def _own_loss(function):
    return mlp(outputs=2, activation="linear", loss=function, metrics=["mae"])


def _regressor(name, activation):
    return lambda: mlp(outputs=2, activation=activation, loss=getattr(keras.losses, name)(), metrics=["mae"])


def _positive():
    x, y = regression()
    return x, np.abs(y) + 0.1


def _binary():
    x, y = regression()
    return x, (y > 0).astype("float64")


def _sequence_model(reduction, rate, masked):
    def build():
        keras.utils.set_random_seed(11)
        model = keras.Sequential(
            [
                keras.Input((5,), dtype="int32"),
                keras.layers.Embedding(7, 4, mask_zero=masked),
                keras.layers.Dense(1),
            ]
        )
        loss = keras.losses.MeanSquaredError(reduction=reduction)
        model.compile(keras.optimizers.SGD(rate, momentum=0.9), loss=loss)
        return model

    return build


def _sequences(weighted):
    def data():
        rng = np.random.RandomState(2)
        tokens = rng.randint(0, 7, (29, 5)).astype("int32")
        targets = rng.randn(29, 5, 1)
        if weighted is None:
            return tokens, targets
        return tokens, targets, weights(29, 1 if weighted == "rows" else 5)

    return data


def _batch_sizes(add):
    for size in range(1, 9):
        add("batch", f"{size} rows", batch_size=size, workers=size < 5)
    # 29 rows: the last batch has 5, 2, 1 row.
    for size in (12, 27, 28, 29, 64):
        add("batch", f"{size} rows", batch_size=size, workers=size in (28, 64))
    add("batch", "a single row", data=lambda: rows(1), epochs=6)
    add("batch", "BatchNormalization, last batch of 1 row", lambda: mlp(hidden=[_BN]), batch_size=14, workers=True)
    add("batch", "BatchNormalization, 3 rows", lambda: mlp(hidden=[_BN]), batch_size=3, epochs=1, workers=True)
    add("batch", "weight regularization, last batch of 1 row", lambda: mlp(kernel=_L2), batch_size=14, workers=True)


_BN = lambda: keras.layers.BatchNormalization(momentum=0.8)  # noqa: E731
_L2 = {"kernel_regularizer": "l2", "bias_regularizer": "l2"}


def _data(add):
    def dataset(unknown=False):
        result = tf.data.Dataset.from_tensor_slices(rows()).batch(6)
        return result.filter(lambda x, y: True) if unknown else result

    def generator():
        x, y = rows()
        for _ in range(10):
            for start in range(0, 29, 6):
                yield x[start : start + 6], y[start : start + 6]

    none = {"batch_size": None}
    add("data", "tf.data of known length", data=dataset, workers=True, **none)
    add("data", "tf.data of unknown length", data=lambda: dataset(unknown=True), workers=True, **none)
    add("data", "tf.data without end", data=lambda: dataset().repeat(), steps_per_epoch=4, workers=True, **none)
    add("data", "a PyDataset", data=Pages, shuffle=False, **none)
    add("data", "a generator", data=generator, steps_per_epoch=5, **none)
    add("data", "steps_per_epoch within arrays", steps_per_epoch=2)
    add("data", "a dict of inputs", _two_inputs, _dict_inputs, workers=True)
    add("data", "strings", _string_model, _strings)
    add("data", "ragged rows", _ragged_model, _ragged, **none)
    add("data", "sparse rows", _sparse_model, _sparse, **none)
    add("data", "float32 targets, int64 labels", data=lambda: (rows()[0].astype("float32"), rows()[1].astype("int64")))
    add("data", "validation_data", validation_data=rows(13), workers=True)
    add("data", "validation_split", validation_split=0.25)


class Pages(keras.utils.PyDataset):
    """Pages of 6 rows."""

    def __init__(self):
        super().__init__()
        self.x, self.y = rows()

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return self.x[6 * index : 6 * index + 6], self.y[6 * index : 6 * index + 6]


def _two_inputs():
    keras.utils.set_random_seed(11)
    left, right = keras.Input((2,), name="left"), keras.Input((2,), name="right")
    both = keras.layers.Concatenate()([keras.layers.Dense(3, activation="tanh")(left), right])
    model = keras.Model({"left": left, "right": right}, keras.layers.Dense(CLASSES, activation="softmax")(both))
    model.compile(keras.optimizers.SGD(0.3), loss="sparse_categorical_crossentropy")
    return model


def _dict_inputs():
    x, y = rows()
    return {"left": x[:, :2], "right": x[:, 2:]}, y


def _string_model():
    keras.utils.set_random_seed(11)
    words = keras.Input((), dtype="string")
    numbers = keras.layers.StringLookup(vocabulary=["red", "green", "blue"], output_mode="one_hot")(words)
    model = keras.Model(words, keras.layers.Dense(CLASSES, activation="softmax")(numbers))
    model.compile(keras.optimizers.SGD(0.5), loss="sparse_categorical_crossentropy")
    return model


def _strings():
    words = np.array(["red", "green", "blue", "grey"], dtype=object)
    return words[np.arange(29) % 4], rows()[1]


def _ragged_model():
    keras.utils.set_random_seed(11)
    model = Bag()
    model.compile(keras.optimizers.SGD(0.5), loss="sparse_categorical_crossentropy")
    return model


class Bag(keras.Model):
    """A mean over the tokens of a ragged row."""

    def __init__(self):
        super().__init__()
        self.table = keras.layers.Embedding(5, CLASSES)

    def build(self, input_shape):
        self.table.build((None,))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], CLASSES)

    def call(self, x):
        if isinstance(x, tf.RaggedTensor):
            vectors = x.with_flat_values(self.table(x.flat_values))
            return tf.nn.softmax(tf.reduce_mean(vectors, axis=1))
        return keras.ops.softmax(keras.ops.mean(self.table(x), axis=1))


def _ragged():
    tokens = tf.ragged.constant([[i % 5] * (i % 3 + 1) + [(i + 1) % 5] for i in range(29)])
    return tf.data.Dataset.from_tensor_slices((tokens, rows()[1])).batch(6)


def _sparse_model():
    keras.utils.set_random_seed(11)
    inputs = keras.Input((WIDTH,), sparse=True)
    model = keras.Model(inputs, keras.layers.Dense(CLASSES, activation="softmax")(inputs))
    model.compile(keras.optimizers.SGD(0.3), loss="sparse_categorical_crossentropy")
    return model


def _sparse():
    x, y = rows()
    x = np.where(np.abs(x) > 0.8, x, 0)
    return tf.data.Dataset.from_tensor_slices((tf.sparse.from_dense(x), y)).batch(6)


def _layers(add):
    layers = keras.layers
    for name, hidden in {
        "BatchNormalization": [_BN],
        "two BatchNormalizations": [_BN, lambda: layers.Dense(5), _BN],
        "LayerNormalization": [layers.LayerNormalization],
        "GroupNormalization": [lambda: layers.GroupNormalization(2)],
        "UnitNormalization": [layers.UnitNormalization],
        "SpectralNormalization": [lambda: layers.SpectralNormalization(layers.Dense(6))],
        "ActivityRegularization": [lambda: layers.ActivityRegularization(l2=0.05)],
        "activity_regularizer": [lambda: layers.Dense(6, activity_regularizer="l2")],
        "PReLU": [layers.PReLU],
        "RowDropout": [lambda: RowDropout(0.4, seed=5)],
        "RowDropout + BatchNormalization": [lambda: RowDropout(0.3, seed=6), _BN],
        "constraints": [lambda: layers.Dense(6, kernel_constraint="max_norm", bias_constraint="non_neg")],
        "a frozen layer": [lambda: layers.Dense(6, trainable=False)],
        "GRU": [lambda: layers.Reshape((3, 2)), lambda: layers.GRU(4)],
        "LSTM": [lambda: layers.Reshape((3, 2)), lambda: layers.LSTM(4)],
        "attention": [
            lambda: layers.Reshape((3, 2)),
            SelfAttention,
            layers.Flatten,
        ],
        "Conv2D + MaxPooling2D": [
            lambda: layers.Reshape((2, 3, 1)),
            lambda: layers.Conv2D(3, 2, padding="same"),
            layers.MaxPooling2D,
            layers.Flatten,
        ],
        "Conv2D + BatchNormalization": [
            lambda: layers.Reshape((2, 3, 1)),
            lambda: layers.Conv2D(3, 2, padding="same", use_bias=False),
            _BN,
            layers.Flatten,
        ],
        "DepthwiseConv2D": [
            lambda: layers.Reshape((2, 3, 1)),
            lambda: layers.DepthwiseConv2D(2, depth_multiplier=2),
            layers.Flatten,
        ],
    }.items():
        add("layer", name, lambda hidden=hidden: mlp(hidden=hidden), workers="Batch" in name)


def _losses_of_rows(add):
    """Losses that give each row's own value; Keras takes the gradient of their sum."""
    for name, loss, build, data in (
        ("crossentropy", keras.losses.SparseCategoricalCrossentropy, mlp, rows),
        ("mean squared error", keras.losses.MeanSquaredError, regressor, regression),
    ):
        for how, options, fit in (
            ("", {}, {}),
            (", batches of 7", {}, {"batch_size": 7}),
            (", XLA", {"jit_compile": True}, {}),
        ):
            # Made in the build, because a loss takes the precision of when it is made.
            def made(build=build, loss=loss, options=options):
                return build(slow_sgd, loss=loss(reduction=None), **options)

            add("own loss", f"{name} of each row{how}", made, data, **fit)


def slow_sgd():
    return keras.optimizers.SGD(0.02, momentum=0.9)


def regressor(optimizer=None, **options):
    return mlp(optimizer, outputs=2, activation=None, metrics=[], **options)


class TutorialModel(keras.Model):
    """A `train_step` as the guides to tf.distribute write it."""

    def __init__(self, *arguments, global_batch=None, **more):
        super().__init__(*arguments, **more)
        self._global_batch = global_batch

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            rows = keras.losses.sparse_categorical_crossentropy(y, self(x, training=True))
            loss = tf.nn.compute_average_loss(rows, global_batch_size=self._global_batch)
            loss += tf.nn.scale_regularization_loss(tf.add_n(self.losses))
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        return {"loss": loss}


def tutorial_model(global_batch=None, optimizer=None):
    keras.utils.set_random_seed(11)
    x = keras.Input((WIDTH,))
    hidden = keras.layers.Dense(6, "tanh", kernel_regularizer=keras.regularizers.L2(0.1))(x)
    model = TutorialModel(x, keras.layers.Dense(CLASSES, "softmax")(hidden), global_batch=global_batch)
    model.compile(optimizer or keras.optimizers.SGD(0.3, momentum=0.9))
    return model


def _tutorials(add):
    for batch_size in (6, 8):
        for given in (None, batch_size):
            name = f"train step of a tutorial, {batch_size} rows" + (", global_batch_size given" if given else "")
            add("own step", name, functools.partial(tutorial_model, given), batch_size=batch_size)


def _added_losses(add):
    """Losses that layers add, beside layers at which replicas meet in the middle of a model."""
    layers = keras.layers
    regular = lambda: layers.Dense(6, activity_regularizer="l2")  # noqa: E731
    for name, hidden in {
        "add_loss + BatchNormalization": [AddsLoss, _BN],
        "BatchNormalization + add_loss": [_BN, AddsLoss],
        "add_loss between BatchNormalizations": [_BN, AddsLoss, _BN],
        "activity_regularizer + BatchNormalization": [regular, _BN],
        "BatchNormalization + activity_regularizer": [_BN, regular],
        "ActivityRegularization + BatchNormalization": [lambda: layers.ActivityRegularization(l2=0.05), _BN],
    }.items():
        for times in (1, 2):
            # Two in a row: each number of replicas has its turn.
            label = name if times == 1 else f"{name}, twice"
            add("layer", label, lambda hidden=hidden * times: mlp(hidden=hidden), workers=times == 1)
    add("model", "train step set on the model", train_step_on_the_model, workers=True)


class AddsLoss(keras.layers.Layer):
    """Adds a loss of its inputs."""

    def call(self, x):
        self.add_loss(keras.ops.mean(x**4))
        return x


def train_step_on_the_model():
    """A `train_step` that is set on the model itself, not on its class."""
    model = mlp()
    of_keras = model.train_step
    model.train_step = lambda data: of_keras((2.0 * data[0], data[1]))
    return model


class SelfAttention(keras.layers.Layer):
    """Attention of a row's parts to each other."""

    def __init__(self):
        super().__init__()
        self.attention = keras.layers.MultiHeadAttention(2, 2)

    def call(self, x):
        return self.attention(x, x)


def _models(add):
    for build in (
        nested_model,
        shared_layer_model,
        subclassed_model,
        two_output_model,
        own_train_step_model,
        own_compute_loss_model,
        own_metrics_model,
        add_loss_model,
        unused_weight_model,
        embedding_model,
    ):
        data = {"two_output_model": _two_targets, "embedding_model": _tokens}.get(build.__name__, rows)
        add("model", build.__name__.removesuffix("_model").replace("_", " "), build, data, workers=True)
    metrics = lambda: [keras.metrics.AUC(name="auc"), keras.metrics.Precision(name="p"), keras.metrics.BinaryAccuracy()]  # noqa: E731
    build = lambda: mlp(outputs=1, activation="sigmoid", loss="binary_crossentropy", metrics=metrics())  # noqa: E731
    add("model", "AUC, precision, accuracy", build, lambda: (rows()[0], rows()[1] > 0), workers=True)
    add(
        "model",
        "metrics after 200 steps",
        lambda: mlp(metrics=["accuracy", keras.metrics.SparseCategoricalCrossentropy(name="ce")]),
        batch_size=4,
        epochs=25,
    )
    iou = lambda: mlp(metrics=[keras.metrics.MeanIoU(CLASSES, sparse_y_pred=False, name="iou")])  # noqa: E731
    add("model", "mean IoU", iou, workers=True)


def nested_model():
    """A model in a model."""
    inner = mlp()
    inputs = keras.Input((WIDTH,))
    model = keras.Model(inputs, keras.layers.Dense(CLASSES, activation="softmax")(inner(inputs)))
    model.compile(keras.optimizers.SGD(0.5), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def shared_layer_model():
    """One layer used twice."""
    keras.utils.set_random_seed(11)
    inputs = keras.Input((WIDTH,))
    shared = keras.layers.Dense(WIDTH, activation="tanh")
    outputs = keras.layers.Dense(CLASSES, activation="softmax")(shared(shared(inputs)))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.5), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


class Net(keras.Model):
    """A subclassed model that is built when it is first called."""

    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(6, activation="tanh")
        self.out = keras.layers.Dense(CLASSES, activation="softmax")

    def call(self, x, training=False):
        return self.out(self.hidden(x))


def _compiled(model):
    model.compile(keras.optimizers.SGD(0.3, momentum=0.9), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def subclassed_model():
    """A subclass of `keras.Model`."""
    keras.utils.set_random_seed(11)
    return _compiled(Net())


def two_output_model():
    """Two outputs, losses and metrics of their own, weighted."""
    keras.utils.set_random_seed(11)
    inputs = keras.Input((WIDTH,))
    hidden = keras.layers.Dense(6, activation="tanh")(inputs)
    label = keras.layers.Dense(CLASSES, activation="softmax", name="label")(hidden)
    value = keras.layers.Dense(2, name="value")(hidden)
    model = keras.Model(inputs, {"label": label, "value": value})
    model.compile(
        keras.optimizers.SGD(0.3, global_clipnorm=0.5),
        loss={"label": "sparse_categorical_crossentropy", "value": keras.losses.MeanSquaredError(reduction="sum")},
        loss_weights={"label": 1.0, "value": 0.05},
        metrics={"label": ["accuracy"], "value": ["mae"]},
    )
    return model


def _two_targets():
    x, y = rows()
    return x, {"label": y, "value": regression()[1]}


class OwnTrainStep(Net):
    """A `train_step` and `test_step` as Keras' guide writes them."""

    def __init__(self):
        super().__init__()
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")

    @property
    def metrics(self):
        return [self.loss_tracker, self.accuracy]

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y, y_pred))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self.loss_tracker.update_state(loss)
        self.accuracy.update_state(y, y_pred)
        return {metric.name: metric.result() for metric in self.metrics}


def own_train_step_model():
    """A `train_step` of its own."""
    keras.utils.set_random_seed(11)
    model = OwnTrainStep()
    model.compile(keras.optimizers.SGD(0.3, momentum=0.9, global_clipnorm=0.3))
    return model


class GuidesTrainStep(Net):
    """A `train_step` that uses what `compile` was given."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x, y, y_pred)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, y_pred)
        return {metric.name: metric.result() for metric in self.metrics}


def guides_train_step_model():
    """The `train_step` of Keras' guide "Customizing what happens in fit"."""
    keras.utils.set_random_seed(11)
    return _compiled(GuidesTrainStep())


class OwnComputeLoss(Net):
    """A `compute_loss` that adds a mean over rows to Keras' own."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return loss + 0.1 * keras.ops.mean(keras.ops.sum(y_pred**2, axis=-1))


def own_compute_loss_model():
    """A `compute_loss` of its own."""
    keras.utils.set_random_seed(11)
    return _compiled(OwnComputeLoss())


class OwnMetrics(Net):
    """A `compute_metrics` that adds one."""

    def __init__(self):
        super().__init__()
        self.sureness = keras.metrics.Mean(name="sureness")

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        self.sureness.update_state(keras.ops.max(y_pred, axis=-1))
        return super().compute_metrics(x, y, y_pred, sample_weight)


def own_metrics_model():
    """A `compute_metrics` of its own."""
    keras.utils.set_random_seed(11)
    return _compiled(OwnMetrics())


class Penalty(keras.layers.Layer):
    """Adds the mean of its inputs' squares to the loss."""

    def call(self, x):
        self.add_loss(0.1 * keras.ops.mean(x**2))
        return x


def add_loss_model():
    """A layer that calls `add_loss`, beside weight regularization."""
    return mlp(hidden=[Penalty], kernel=_L2)


def unused_weight_model():
    """A weight that no gradient reaches."""
    keras.utils.set_random_seed(11)
    model = Net()
    model.idle = model.add_weight(shape=(3,), initializer="ones", name="idle")
    return _compiled(model)


def embedding_model():
    """An embedding, whose gradient is sparse."""
    keras.utils.set_random_seed(11)
    model = keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            keras.layers.Embedding(9, 4),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.05, global_clipnorm=0.5), loss="sparse_categorical_crossentropy")
    return model


def _tokens():
    return np.random.RandomState(3).randint(0, 9, (29, 3)).astype("int32"), rows()[1]


def _execution(add):
    for steps in (1, 3, 10):
        for clip in (None, 0.1):
            build = lambda steps=steps, clip=clip: mlp(  # noqa: E731
                lambda: keras.optimizers.Adam(0.03, global_clipnorm=clip), steps_per_execution=steps
            )
            add("execution", f"steps_per_execution={steps}{', global_clipnorm' if clip else ''}", build, workers=True)
    xla = lambda: mlp(jit_compile=True)  # noqa: E731
    add("execution", "jit_compile", xla, workers=True)
    add("execution", "jit_compile, 5 rows", xla, batch_size=5, workers=True)
    both = lambda: mlp(jit_compile=True, steps_per_execution=3, kernel=_L2)  # noqa: E731
    add("execution", "jit_compile + steps_per_execution=3 + regularization", both, workers=True)
    layered = lambda: mlp(jit_compile=True, hidden=[keras.layers.LayerNormalization])  # noqa: E731
    add("execution", "jit_compile + LayerNormalization", layered)
    add("execution", "run_eagerly", lambda: mlp(run_eagerly=True), workers=True)
    add("model", "the train step of Keras' guide", guides_train_step_model, workers=True)
