"""Rows of the table in which a batch's rows depend on each other: losses, layers, and metrics whose state is no sum."""

import functools

import keras
import numpy as np
import tensorflow as tf
from equivalence.cases import CLASSES, WIDTH, Net, Pages, mlp, regression, rows, slow_sgd, weights

import tfdist


def add_coupled(add):
    """Adds trainings in which the loss of a row depends on other rows of the batch."""
    for name, (make_loss, data, activation) in _LOSSES.items():
        # Made in the build, because a loss takes the precision of when it is made.
        build = lambda make_loss=make_loss, activation=activation: embedder(make_loss(), activation=activation)  # noqa: E731
        add(
            "coupled",
            name,
            build,
            data,
            workers=name in ("in-batch negatives", "Dice", "triplets", "batches of 8 rows"),
        )
    add("coupled", "in-batch negatives, sample weights", _negatives, lambda: (*pairs(), weights()), workers=True)
    add("coupled", "in-batch negatives, class_weight", _negatives, labelled, class_weight={0: 0.3, 1: 2.0, 2: 1.0})
    add("coupled", "in-batch negatives, 2 rows", _negatives, pairs, batch_size=2, epochs=2, workers=True)
    add("coupled", "in-batch negatives, last batch of 1 row", _negatives, pairs, batch_size=14, workers=True)
    add("coupled", "in-batch negatives, tf.data", _negatives, _stream, workers=True, batch_size=None)
    add("coupled", "in-batch negatives, a generator", _negatives, _generator, batch_size=None, steps_per_epoch=5)
    add("coupled", "in-batch negatives, a PyDataset", _negatives, Pages, shuffle=False, batch_size=None)
    for reduction in ("sum", "none", "mean_with_sample_weight"):
        build = functools.partial(_negatives, reduction=reduction)
        data = pairs if reduction == "none" else lambda: (*pairs(), weights())
        add("coupled", f"in-batch negatives, {reduction}", build, data, workers=True)
    for name, options in {
        "BatchNormalization": {"hidden": [keras.layers.BatchNormalization]},
        "run_eagerly": {"run_eagerly": True},
        "steps_per_execution=3": {"steps_per_execution": 3},
    }.items():
        add("coupled", f"in-batch negatives, {name}", functools.partial(_negatives, **options), pairs)
    clipped = functools.partial(
        _negatives, optimizer=lambda: keras.optimizers.SGD(0.1, gradient_accumulation_steps=2, global_clipnorm=0.1)
    )
    add("coupled", "in-batch negatives, accumulation + global_clipnorm", clipped, pairs)
    add("coupled", "a mask", _masked, _tokens_with_gaps, workers=True)
    add("coupled", "one of two outputs", _two_outputs, _two_targets, workers=True)
    add("coupled", "validation_data", _negatives, pairs, validation_data=(pairs()[0][:13], pairs()[1][:13]))
    add("coupled", "add_loss, own train step", adding_model, rows, workers=True)
    add("coupled", "gather_rows in an own train step", functools.partial(_own_step, GathersStep), pairs, workers=True)
    add("coupled", "own train step", functools.partial(_own_step, GuidesStep), pairs, workers=True)
    _add_layers(add)
    _add_operations(add)
    _add_hidden(add)


def _add_hidden(add):
    """Adds trainings in which rows depend on each other by a weight, or in something of Keras' by an option of it."""
    build = lambda: mlp(outputs=2, activation=None, loss=MeanByWeights(), metrics=[])  # noqa: E731
    add("coupled", "a loss over the sum of its weights", build, lambda: (*regression(), weights() + 0.5), workers=True)
    add(
        "coupled",
        "a loss over the sum of its class_weight",
        lambda: embedder(MeanByWeights()),
        labelled,
        class_weight={0: 0.3, 1: 2.0, 2: 1.0},
    )
    along_rows = lambda: keras.losses.CosineSimilarity(axis=0)  # noqa: E731
    build = lambda: mlp(outputs=2, activation=None, loss=along_rows(), metrics=[])  # noqa: E731
    add("coupled", "CosineSimilarity along the rows", build, regression, workers=True)
    for name, hidden in {
        "Softmax along the rows": lambda: keras.layers.Softmax(axis=0),
        "UnitNormalization along the rows": lambda: keras.layers.UnitNormalization(axis=-2),
        "an activation that is an object": lambda: keras.layers.Dense(5, activation=Centers()),
        "an activation that is a partial": lambda: keras.layers.Activation(
            functools.partial(keras.activations.softmax, axis=0)
        ),
    }.items():
        add("coupled", name, lambda hidden=hidden: mlp(hidden=[hidden]), workers=name == "Softmax along the rows")
    relative = lambda: mlp(weighted_metrics=[RelativeSureness()])  # noqa: E731
    add("metric", "weights over their maximum", relative, lambda: (*rows(), weights() + 0.5), workers=True)
    measured = lambda: mlp(  # noqa: E731
        outputs=2, activation=None, loss="mse", metrics=[keras.metrics.CosineSimilarity(axis=0)]
    )
    add("metric", "CosineSimilarity along the rows", measured, regression, workers=True)


class MeanByWeights(keras.losses.Loss):
    """A mean over rows, by their weights, without Keras' reduction."""

    def __call__(self, y_true, y_pred, sample_weight=None):
        y_true = tf.reshape(tf.cast(y_true, y_pred.dtype), [tf.shape(y_pred)[0], -1])
        errors = tf.reduce_mean((y_pred - y_true) ** 2, axis=-1)
        if sample_weight is None:
            return tf.reduce_mean(errors)
        sample_weight = tf.reshape(tf.cast(sample_weight, errors.dtype), [-1])
        return tf.reduce_sum(errors * sample_weight) / tf.reduce_sum(sample_weight)


class Centers:
    """Subtracts the mean over the batch."""

    def __call__(self, x):
        return x - tf.reduce_mean(x, axis=0)


def _add_layers(add):
    """Adds trainings whose layers add a loss in which rows depend on each other, without tfdist's operations."""
    norm = keras.layers.BatchNormalization
    for name, hidden in {
        "add_loss": [Decorrelated],
        "add_loss + BatchNormalization": [Decorrelated, norm],
        "BatchNormalization + add_loss": [norm, Decorrelated],
        "add_loss, twice": [Decorrelated, Decorrelated],
        "add_loss in a nested layer": [Outer],
        "activity_regularizer": [lambda: keras.layers.Dense(6, activity_regularizer=spread_penalty)],
        "activity_regularizer, a mean over rows": [lambda: keras.layers.Dense(6, activity_regularizer=mean_penalty)],
    }.items():
        add("coupled", name, lambda hidden=hidden: mlp(hidden=hidden), workers=True)
    add("coupled", "add_loss, 2 rows", lambda: mlp(hidden=[Decorrelated]), batch_size=2)
    add("coupled", "add_loss, tf.data", lambda: mlp(hidden=[Decorrelated]), _stream, workers=True, batch_size=None)


def _add_operations(add):
    """Adds trainings whose own code calls tfdist's operations over the replicas."""
    for name, layer in {
        "add_loss of gather_rows": GathersRows,
        "add_loss of global_loss": LosesGlobally,
        "a layer with global_sum": Centered,
        "a layer with gather_rows": Attending,
    }.items():
        add("coupled", name, lambda layer=layer: mlp(hidden=[layer]), workers=True)
    add("coupled", "gather_rows in a loss", lambda: embedder(gathered_negatives), pairs, workers=True)
    add("coupled", "global_loss in a loss", lambda: embedder(global_negatives), pairs)
    add("coupled", "global_loss in a compute_loss", functools.partial(_own_step, OwnLoss), pairs, workers=True)
    add("coupled", "global_mean in a compute_loss", functools.partial(_own_step, MeanLoss), pairs)
    add("coupled", "global_loss in an own train step", functools.partial(_own_step, GlobalStep), pairs, workers=True)
    add("coupled", "tf.data, a layer with gather_rows", lambda: mlp(hidden=[Attending]), _filtered, workers=True)


def embedder(loss, hidden=(), optimizer=None, **options):
    """Builds a model of two embeddings side by side, (B, 8)."""
    options = {"metrics": [], "activation": None, **options}
    if options["activation"] == "unit":
        options["activation"] = keras.ops.normalize
    return mlp(optimizer or slow_sgd, outputs=8, hidden=hidden, loss=loss, **options)


def _negatives(reduction="sum_over_batch_size", **options):
    return embedder(InBatchSoftmax(reduction=reduction), **options)


class InBatchSoftmax(keras.losses.Loss):
    """One loss a row; its negatives are the other rows."""

    def call(self, y_true, y_pred):
        return negatives(y_true, y_pred)


def negatives(y_true, y_pred):
    """Returns each row's cross-entropy with the other rows as negatives: (B,)."""
    query, key = tf.split(y_pred, 2, axis=-1)
    logits = tf.matmul(query, key, transpose_b=True)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.range(tf.shape(query)[0]), logits)


def gathered_negatives(y_true, y_pred):
    """The same as a scalar, from the rows of all replicas, as a user writes it."""
    return tf.reduce_mean(negatives(None, tfdist.gather_rows(y_pred)))


def global_negatives(y_true, y_pred):
    """The same, counted once."""
    return tfdist.global_loss(lambda y: tf.reduce_mean(negatives(None, y)), y_pred)


class TripletLoss(keras.losses.Loss):
    """A scalar that overrides `__call__`, without Keras' reduction."""

    def __call__(self, y_true, y_pred, sample_weight=None):
        return triplets(y_true, y_pred)


def triplets(y_true, y_pred):
    """Returns the hinge of all triplets: a scalar, zero where no two rows have one label."""
    labels = tf.reshape(tf.cast(y_true, tf.int32), [-1])
    gaps = tf.reduce_sum((y_pred[:, None] - y_pred[None]) ** 2, axis=-1)
    same = labels[:, None] == labels[None]
    positive = tf.cast(same & ~tf.eye(tf.shape(labels)[0], dtype=tf.bool), y_pred.dtype)
    hinge = tf.nn.relu(gaps[:, :, None] - gaps[:, None, :] + 1.0)
    valid = positive[:, :, None] * tf.cast(~same, y_pred.dtype)[:, None, :]
    return tf.math.divide_no_nan(tf.reduce_sum(hinge * valid), tf.reduce_sum(valid))


def correlation(y_true, y_pred):
    """Returns one minus the correlation over the batch, with the targets in both columns."""
    x, y = tf.reduce_sum(y_pred, axis=-1), tf.reduce_sum(tf.cast(y_true, y_pred.dtype), axis=-1)
    x, y = x - tf.reduce_mean(x), y - tf.reduce_mean(y)
    return 1 - tf.reduce_sum(x * y) / tf.sqrt(tf.reduce_sum(x * x) * tf.reduce_sum(y * y) + 1e-6)


def ranking(y_true, y_pred):
    """Returns a pairwise hinge: a row with a larger target should have a larger output."""
    score, target = tf.reduce_sum(y_pred, axis=-1), tf.reduce_sum(tf.cast(y_true, y_pred.dtype), axis=-1)
    order = tf.sign(target[:, None] - target[None])
    return tf.reduce_mean(tf.nn.softplus(-order * (score[:, None] - score[None])), axis=1)


def summed(y_true, y_pred):
    """Returns a sum over the rows, which is no mean."""
    return tf.reduce_sum((y_pred[:, :2] - tf.cast(y_true, y_pred.dtype)) ** 2) / 29.0


def standardized(y_true, y_pred):
    """Returns squared errors over the standard deviation of the batch: (B,)."""
    output = y_pred[:, :2]
    return tf.reduce_mean((output - tf.cast(y_true, output.dtype)) ** 2, axis=-1) / (tf.math.reduce_std(output) + 1.0)


def of_eight_rows(y_true, y_pred):
    """Returns a loss that is known for batches of 8 rows alone."""
    return tf.reduce_mean(tf.square(tf.reshape(y_pred, [8, 8]) @ tf.ones([8, 1], y_pred.dtype)))


def embedding_norms(y_true, y_pred):
    """Returns the off-diagonal covariance of the outputs over the batch, and its variances (VICReg)."""
    rows = y_pred - tf.reduce_mean(y_pred, axis=0)
    covariance = tf.matmul(rows, rows, transpose_a=True) / tf.cast(tf.shape(rows)[0], rows.dtype)
    spread = tf.sqrt(tf.linalg.diag_part(covariance) + 1e-4)
    return tf.reduce_sum(covariance**2) - tf.reduce_sum(spread**2 * 0.5) + tf.reduce_mean(tf.nn.relu(1 - spread))


def pairs():
    """Returns x (29, 4) and labels that no loss of two embeddings needs."""
    return rows()


def labelled():
    """Returns x and labels."""
    return rows()


def _masks():
    x, y = rows()
    return x, np.stack([(y == place % CLASSES) for place in range(8)], axis=1).astype("float64")


def _eight_rows():
    x, y = rows(24)
    return x, y


def _stream():
    return tf.data.Dataset.from_tensor_slices(pairs()).batch(6)


def _filtered():
    return tf.data.Dataset.from_tensor_slices(rows()).batch(6).filter(lambda x, y: True)


def _generator():
    x, y = pairs()
    for _ in range(10):
        for start in range(0, 29, 6):
            yield x[start : start + 6], y[start : start + 6]


def _masked():
    keras.utils.set_random_seed(11)
    model = keras.Sequential(
        [keras.Input((5,), dtype="int32"), keras.layers.Embedding(7, 4, mask_zero=True), keras.layers.Dense(1)]
    )
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss=Standardized())
    return model


class Standardized(keras.losses.Loss):
    """Squared errors over the mean squared output of the batch: (B, T)."""

    def call(self, y_true, y_pred):
        return tf.reduce_mean((y_pred - y_true) ** 2, axis=-1) / (tf.reduce_mean(y_pred**2) + 1.0)


def _tokens_with_gaps():
    rng = np.random.RandomState(2)
    return rng.randint(0, 7, (29, 5)).astype("int32"), rng.randn(29, 5, 1)


def _two_outputs():
    keras.utils.set_random_seed(11)
    inputs = keras.Input((WIDTH,))
    hidden = keras.layers.Dense(6, activation="tanh")(inputs)
    label = keras.layers.Dense(CLASSES, activation="softmax", name="label")(hidden)
    model = keras.Model(inputs, {"label": label, "vector": keras.layers.Dense(8, name="vector")(hidden)})
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        loss={"label": "sparse_categorical_crossentropy", "vector": InBatchSoftmax()},
        loss_weights={"label": 1.0, "vector": 0.3},
        metrics={"label": ["accuracy", Largest(name="largest")]},
    )
    return model


def _two_targets():
    x, y = rows()
    return x, {"label": y, "vector": y}


class Embedder(keras.Model):
    """Two embeddings side by side, (B, 8)."""

    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(6, activation="tanh")
        self.out = keras.layers.Dense(8)
        self.heat = self.add_weight(shape=(), initializer="ones", name="heat")

    def call(self, x, training=False):
        return self.out(self.hidden(x))


def _own_step(kind):
    keras.utils.set_random_seed(11)
    model = kind()
    model.compile(slow_sgd(), loss=InBatchSoftmax())
    return model


class GuidesStep(Embedder):
    """The `train_step` of Keras' guide, with the loss of `compile`."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True)) + 0.0 * self.heat
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        return {"loss": loss}


class GathersStep(Embedder):
    """A `train_step` with a loss of gathered rows, and a temperature that is learned."""

    def train_step(self, data):
        x, _ = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(negatives(None, tfdist.gather_rows(self(x, training=True)) * self.heat))
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        return {"loss": loss}


class GlobalStep(Embedder):
    """A `train_step` with a loss of all rows, and a temperature that is learned."""

    def train_step(self, data):
        x, _ = data
        with tf.GradientTape() as tape:
            loss = tfdist.global_loss(self._loss, self(x, training=True))
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        return {"loss": loss}

    def _loss(self, y_pred):
        return tf.reduce_mean(negatives(None, y_pred * self.heat))


class OwnLoss(Embedder):
    """A `compute_loss` with a loss of all rows, and a temperature that is learned."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return tfdist.global_loss(lambda each: tf.reduce_mean(negatives(None, each * self.heat)), y_pred)


class MeanLoss(Embedder):
    """A `compute_loss` that is a mean over the rows of all replicas."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return tfdist.global_mean(tf.reduce_mean((y_pred * self.heat - 1.0) ** 2, axis=-1))


def decorrelation(x):
    """Returns the squared covariances of a batch: a scalar."""
    x = x - tf.reduce_mean(x, axis=0)
    return tf.reduce_sum(tf.matmul(x, x, transpose_a=True) ** 2) / tf.cast(tf.shape(x)[0], x.dtype) ** 2


class Decorrelated(keras.layers.Layer):
    """Adds a penalty on the covariance of the batch, and scales its inputs by a weight of its own."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        x = x * self.scale
        self.add_loss(0.02 * decorrelation(x))
        return x


class AddingStep(keras.Model):
    """The `train_step` of Keras' guide, in a model with such a layer."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        return {"loss": loss}


def adding_model():
    """Builds a model with a layer that adds a loss and a `train_step` of its own."""
    keras.utils.set_random_seed(11)
    inputs = keras.Input((WIDTH,))
    hidden = Decorrelated()(keras.layers.Dense(6, activation="tanh")(inputs))
    model = AddingStep(inputs, keras.layers.Dense(CLASSES, activation="softmax")(hidden))
    model.compile(keras.optimizers.SGD(0.3), loss="sparse_categorical_crossentropy")
    return model


class Outer(keras.layers.Layer):
    """A layer with such a layer in it."""

    def __init__(self):
        super().__init__()
        self.inner = Decorrelated()

    def call(self, x):
        return keras.ops.tanh(self.inner(x))


def spread_penalty(x):
    """Returns the negative variance of the batch."""
    return -0.1 * tf.math.reduce_variance(x)


def mean_penalty(x):
    """Returns a mean over rows, where Keras' own regularizers return sums."""
    return 0.1 * tf.reduce_mean(x**2)


class GathersRows(keras.layers.Layer):
    """Adds a penalty on the covariance of the rows of all replicas."""

    def call(self, x):
        self.add_loss(decorrelation(tfdist.gather_rows(x)))
        return x


class LosesGlobally(keras.layers.Layer):
    """The same, scaled by a weight of its own."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        self.add_loss(tfdist.global_loss(lambda each: decorrelation(each * self.scale), x))
        return x * self.scale


class Centered(keras.layers.Layer):
    """Subtracts the mean over the batch."""

    def call(self, x):
        total, count = tfdist.global_sum((tf.reduce_sum(x, axis=0), tf.cast(tf.shape(x)[0], x.dtype)))
        return x - total / count


class Attending(keras.layers.Layer):
    """Attends over the rows of the batch."""

    def call(self, x):
        whole = tfdist.gather_rows(x)
        return x + tf.matmul(tf.nn.softmax(tf.matmul(x, whole, transpose_b=True)), whole)


# Name → (a function that makes a loss, data, the activation of the outputs).
_LOSSES = {
    "in-batch negatives": (InBatchSoftmax, pairs, None),
    "in-batch negatives, a function": (lambda: negatives, pairs, None),
    "triplets": (lambda: triplets, labelled, None),
    "triplets, own __call__": (TripletLoss, labelled, None),
    "Circle": (lambda: keras.losses.Circle(gamma=4.0), labelled, "unit"),
    "Dice": (keras.losses.Dice, _masks, "sigmoid"),
    "Dice along the rows": (lambda: keras.losses.Dice(axis=(0, 1)), _masks, "sigmoid"),
    "Dice of each row": (lambda: keras.losses.Dice(axis=1), _masks, "sigmoid"),
    "Tversky": (lambda: keras.losses.Tversky(0.3, 0.7), _masks, "sigmoid"),
    "correlation": (lambda: correlation, regression, None),
    "ranking": (lambda: ranking, regression, None),
    "a sum of one's own": (lambda: summed, regression, None),
    "standardized errors": (lambda: standardized, regression, None),
    "variance and covariance": (lambda: embedding_norms, pairs, None),
    "batches of 8 rows": (lambda: of_eight_rows, _eight_rows, None),
}


def add_metrics(add):
    """Adds trainings with metrics whose state is no sum."""
    for name, metrics in {
        "a maximum": lambda: [Largest()],
        "a mean of batches": lambda: [MeanOfBatches()],
        "a count of steps": lambda: [Steps()],
        "the last batch": lambda: [Last()],
        "classes seen": lambda: [Seen()],
        "a median of the batch": lambda: [median],
        "a subclass of AUC, a maximum, Keras' own": lambda: ["accuracy", Largest(), Sureness()],
    }.items():
        build = lambda metrics=metrics: mlp(metrics=metrics())  # noqa: E731
        add("metric", name, build, workers=True, validation_data=rows(13))
    add("metric", "a weighted maximum", _weighted, lambda: (*rows(), weights()), workers=True)
    add("metric", "a maximum, 2 rows", lambda: mlp(metrics=[Largest(), Steps()]), batch_size=2)
    add("metric", "a maximum, run_eagerly", lambda: mlp(metrics=[Largest()], run_eagerly=True))
    add("metric", "aggregations in an own train step", _own_metrics, workers=True, batch_size=6)


def add_metric_of_a_variable(add):
    """Adds a training with a metric that returns its variable."""
    build = lambda: mlp(metrics=[RareClass()])  # noqa: E731
    add("metric", "a class was seen, by its variable", build, workers=True, validation_data=rows(13))


class RareClass(keras.metrics.Metric):
    """Whether class 2 was seen."""

    def __init__(self, name="rare", **options):
        super().__init__(name=name, **options)
        self.seen = self.add_variable((), "zeros", dtype="int32", name="seen")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.seen.assign(tf.maximum(self.seen, tf.cast(tf.reduce_any(tf.cast(y_true, tf.int32) == 2), tf.int32)))

    def result(self):
        return self.seen


def _weighted():
    return mlp(weighted_metrics=[Largest(), "accuracy"])


class Largest(keras.metrics.Metric):
    """The largest product of an output and its weight."""

    def __init__(self, name="largest", **options):
        super().__init__(name=name, **options)
        self.value = self.add_variable((), "zeros", name="value")

    def update_state(self, y_true, y_pred, sample_weight=None):
        largest = tf.reduce_max(tf.cast(y_pred, self.dtype), axis=-1)
        if sample_weight is not None:
            largest *= tf.cast(tf.reshape(sample_weight, [-1]), self.dtype)
        self.value.assign(tf.maximum(self.value, tf.reduce_max(largest)))

    def result(self):
        return tf.convert_to_tensor(self.value)


class MeanOfBatches(keras.metrics.Metric):
    """The mean of the batches' standard deviations."""

    def __init__(self, name="mean_of_batches", **options):
        super().__init__(name=name, **options)
        self.total = self.add_variable((), "zeros", name="total")
        self.count = self.add_variable((), "zeros", name="count")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.total.assign_add(tf.math.reduce_std(tf.cast(y_pred, self.dtype)))
        self.count.assign_add(1.0)

    def result(self):
        return tf.math.divide_no_nan(tf.convert_to_tensor(self.total), tf.convert_to_tensor(self.count))


class Steps(keras.metrics.Metric):
    """The number of steps."""

    def __init__(self, name="steps", aggregation="sum", **options):
        super().__init__(name=name, **options)
        self.count = self.add_variable((), "zeros", aggregation=aggregation, name="count")

    def update_state(self, *arguments, **options):
        self.count.assign_add(1.0)

    def result(self):
        return tf.convert_to_tensor(self.count)


class Last(keras.metrics.Metric):
    """The mean output of the last batch's first class."""

    def __init__(self, name="last", aggregation="sum", **options):
        super().__init__(name=name, **options)
        self.value = self.add_variable((), "zeros", aggregation=aggregation, name="value")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.value.assign(tf.reduce_mean(tf.cast(y_pred, self.dtype)[:, 0]))

    def result(self):
        return tf.convert_to_tensor(self.value)


class Seen(keras.metrics.Metric):
    """The number of classes that were seen."""

    def __init__(self, name="seen", **options):
        super().__init__(name=name, **options)
        self.seen = self.add_variable((CLASSES,), "zeros", name="seen")

    def update_state(self, y_true, y_pred, sample_weight=None):
        labels = tf.one_hot(tf.cast(tf.reshape(y_true, [-1]), tf.int32), CLASSES, dtype=self.dtype)
        self.seen.assign(tf.maximum(self.seen, tf.reduce_max(labels, axis=0)))

    def result(self):
        return tf.reduce_sum(self.seen)


class Sureness(keras.metrics.Mean):
    """A mean of the user's own, which adds up."""

    def __init__(self, name="sureness", **options):
        super().__init__(name=name, **options)

    def update_state(self, y_true, y_pred, sample_weight=None):
        return super().update_state(tf.reduce_max(y_pred, axis=-1))


class RelativeSureness(keras.metrics.Mean):
    """The largest outputs, weighted by a row's weight over the largest of the batch; with the number of rows."""

    def __init__(self, name="relative_sureness", **options):
        super().__init__(name=name, **options)

    def update_state(self, y_true, y_pred, sample_weight=None):
        values = tf.cast(tf.reduce_max(y_pred, axis=-1), self.dtype)
        if sample_weight is not None:
            sample_weight = tf.reshape(tf.cast(sample_weight, self.dtype), [-1])
            values *= sample_weight / tf.reduce_max(sample_weight)
        return super().update_state(values)


def median(y_true, y_pred):
    """Returns the median output of a batch: a scalar."""
    values = tf.sort(tf.reshape(y_pred, [-1]))
    return values[tf.size(values) // 2]


class OwnMetricsStep(Net):
    """A `train_step` that updates metrics which say how replicas are brought together."""

    def __init__(self):
        super().__init__()
        self.steps_done = Steps(aggregation="only_first_replica")
        self.last_mean = Last(aggregation="mean")

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y, y_pred))
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        self.steps_done.update_state()
        self.last_mean.update_state(y, y_pred)
        return {"steps": self.steps_done.result(), "last": self.last_mean.result()}


def _own_metrics():
    keras.utils.set_random_seed(11)
    model = OwnMetricsStep()
    model.compile(keras.optimizers.SGD(0.3))
    return model
