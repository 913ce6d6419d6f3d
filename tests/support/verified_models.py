"""Models for `tfdist.verify`: right ones, and ones that are wrong under the rule that a scalar counts by its rows."""

import keras
import numpy as np
import tensorflow as tf

ROWS = 40
_random = np.random.RandomState(0)
X = _random.randn(ROWS, 4)
Y = (X.sum(1) > 0).astype("int32")
IMAGES = _random.randn(ROWS, 6, 6, 1)
WORDS = _random.randint(1, 7, (ROWS, 5)) * (np.arange(5) < _random.randint(1, 6, (ROWS, 1)))
WEIGHTS = _random.rand(ROWS)


def dense(width=6, **arguments):
    return keras.layers.Dense(width, activation="tanh", **arguments)


def compiled(model, optimizer=None, **arguments):
    settings = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"], **arguments}
    model.compile(optimizer or keras.optimizers.Adam(0.01), **settings)
    return model


def classifier(layers, shape=(4,), dtype=None):
    """Returns layers in a row, and a softmax behind them, compiled."""
    inputs = [keras.Input(shape, dtype=dtype)]
    return compiled(keras.Sequential([*inputs, *layers, keras.layers.Dense(2, activation="softmax")]))


# Right ones.


def tutorial_loss():
    """The loss of TensorFlow's tutorials on custom loops, which means one thing in tfdist's step."""

    def loss(y, y_pred):
        rows = keras.losses.sparse_categorical_crossentropy(y, y_pred)
        return tf.nn.compute_average_loss(rows)

    return compiled(classifier([dense()]), loss=loss), (X, Y)


def loss_over_the_global_batch():
    """The same with the division by hand: a sum over rows, which is computed from the rows of all replicas."""

    def loss(y, y_pred):
        rows = keras.losses.sparse_categorical_crossentropy(y, y_pred)
        return tf.reduce_sum(rows) / 16

    return compiled(classifier([dense()]), loss=loss), (X, Y)


def functional():
    inputs = keras.Input((4,))
    x = dense(kernel_regularizer=keras.regularizers.L2(1e-2))(inputs)
    x = keras.layers.add([x, dense()(x)])
    return compiled(keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))), (X, Y)


def nested():
    inner = keras.Sequential(
        [keras.Input((4,)), dense(), keras.Sequential([dense(), keras.layers.BatchNormalization()])]
    )
    return classifier([inner]), tf.data.Dataset.from_tensor_slices((X, Y)).batch(20)


class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.second = dense(), keras.layers.Dense(2, activation="softmax")

    def call(self, x):
        return self.second(self.first(x))


def subclassed():
    def mean_over_my_rows(y, y_pred):
        rows = keras.losses.sparse_categorical_crossentropy(y, y_pred)
        return tf.reduce_sum(rows) / tf.cast(tf.shape(rows)[0], rows.dtype)

    return compiled(Net(), loss=mean_over_my_rows), (X, Y)


def shared_layers():
    a, b = keras.Input((4,)), keras.Input((4,))
    twice = dense()
    x = keras.layers.concatenate([twice(a), twice(b)])
    return compiled(keras.Model([a, b], keras.layers.Dense(2, activation="softmax")(x))), ([X, X[::-1]], Y)


def several_outputs():
    inputs = keras.Input((4,))
    x = dense()(inputs)
    outputs = {"label": keras.layers.Dense(2, activation="softmax")(x), "sum": keras.layers.Dense(1)(x)}
    losses = {"label": "sparse_categorical_crossentropy", "sum": keras.losses.Huber(reduction="sum")}
    model = compiled(keras.Model(inputs, outputs), loss=losses, loss_weights={"label": 2.0, "sum": 0.1}, metrics=None)
    return model, (X, {"label": Y, "sum": X.sum(1, keepdims=True)})


def masked_outputs():
    model = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            keras.layers.Embedding(8, 3, mask_zero=True),
            keras.layers.GRU(4, return_sequences=True),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    return compiled(model), (WORDS, (WORDS > 3).astype("int32"))


def sample_weights():
    model = classifier([dense()])
    return compiled(model, metrics=None, weighted_metrics=["accuracy"]), (X, Y, WEIGHTS)


class OwnStep(keras.Sequential):
    """Keras' own example of a train step."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.loss_of(y, y_pred)
        self.update(tape.gradient(loss, self.trainable_variables))
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, y_pred)
        return self.get_metrics_result()

    def loss_of(self, y, y_pred):
        return self.compute_loss(y=y, y_pred=y_pred)

    def update(self, gradients):
        self.optimizer.apply(gradients, self.trainable_variables)


def with_step(kind):
    return compiled(kind([keras.Input((4,)), dense(), keras.layers.Dense(2, activation="softmax")])), (X, Y)


def own_train_step():
    return with_step(OwnStep)


class ClippedStep(OwnStep):
    """Clips the gradients before the optimizer gets them."""

    def update(self, gradients):
        super().update(tf.clip_by_global_norm(gradients, 0.05)[0])


def clipped_in_the_step():
    return with_step(ClippedStep)


def rows_against_each_other(y, y_pred):
    """Each row's embedding against those of the rows before it, as contrastive losses do."""
    similarity = tf.matmul(y_pred, y_pred, transpose_b=True)
    targets = tf.range(tf.shape(y_pred)[0])
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(targets, similarity))


def coupled_loss():
    return compiled(classifier([dense()]), loss=rows_against_each_other, metrics=None), (X, Y)


def dice_loss():
    model = keras.Sequential([keras.Input((4,)), dense(), keras.layers.Dense(1, activation="sigmoid")])
    return compiled(model, loss=keras.losses.Dice(), metrics=None), (X, Y[:, None].astype(X.dtype))


class RunningMean(keras.layers.Layer):
    """Subtracts a running mean of its inputs, which it keeps itself."""

    def build(self, shape):
        self.mean = self.add_weight(shape=shape[1:], initializer="zeros", trainable=False, name="running")

    def call(self, x, training=False):
        if training:
            self.mean.assign(0.9 * self.mean + 0.1 * tf.reduce_mean(x, axis=0))
        return x - self.mean


def running_mean():
    return classifier([dense(), RunningMean()]), (X, Y)


class RunningVariance(RunningMean):
    """Keeps a variance in the way of a mean."""

    def call(self, x, training=False):
        if training:
            self.mean.assign(0.5 * self.mean + 0.5 * tf.math.reduce_variance(x, axis=0))
        return x / tf.sqrt(self.mean + 1.0)


def running_variance():
    return classifier([dense(), RunningVariance(name="variance")]), (X, Y)


class LocalNorm(keras.layers.Layer):
    """Normalises by the statistics of its rows."""

    def call(self, x):
        mean, variance = self.moments(x)
        return (x - mean) / tf.sqrt(variance + 1e-3)

    def moments(self, x):
        return list(tf.nn.moments(x, axes=[0]))


def local_norm():
    return classifier([dense(name="before"), LocalNorm(name="norm"), dense()]), (X, Y)


class Decorrelating(keras.layers.Layer):
    """Adds a penalty on the covariance of its replica's rows."""

    def call(self, x):
        centred = x - tf.reduce_mean(x, axis=0)
        self.add_loss(tf.reduce_sum(tf.square(tf.matmul(centred, centred, transpose_a=True))))
        return x


def coupled_penalty():
    return classifier([dense(), Decorrelating(name="decorrelating")]), (X, Y)


def dropout():
    layers = [keras.layers.GaussianNoise(0.1), dense(), keras.layers.Dropout(0.5), keras.layers.Dropout(0.1)]
    return classifier(layers), (X, Y)


def convolution():
    layers = [keras.layers.Conv2D(3, 3), keras.layers.BatchNormalization(), keras.layers.GlobalMaxPooling2D()]
    # The gradient of a bias before BatchNorm is nothing but rounding, and Lion makes whole steps of its sign.
    return compiled(classifier(layers, (6, 6, 1)), keras.optimizers.Lion(0.01)), (IMAGES, Y)


def float32_inside():
    """A layer that TensorFlow refuses in float64."""
    layers = [keras.layers.Lambda(lambda x: x * tf.constant([1.0, 2.0, 3.0, 4.0])), dense()]
    return classifier(layers), (X, Y)


RIGHT = (
    tutorial_loss,
    loss_over_the_global_batch,
    functional,
    nested,
    subclassed,
    shared_layers,
    several_outputs,
    masked_outputs,
    sample_weights,
    own_train_step,
    clipped_in_the_step,
    coupled_loss,
    dice_loss,
    running_mean,
    running_variance,
    local_norm,
    coupled_penalty,
    dropout,
    convolution,
    float32_inside,
)


# Wrong ones.


def loss_over_replicas():
    """A loss for custom loops, where gradients are summed and not weighed, divided by hand."""

    def loss(y, y_pred):
        rows = keras.losses.sparse_categorical_crossentropy(y, y_pred)
        return tf.reduce_mean(rows) / tf.distribute.get_strategy().num_replicas_in_sync

    return compiled(classifier([dense()]), loss=loss), (X, Y)


class CountingNorm(LocalNorm):
    """Asks for the number of replicas, so it counts as one that takes care of them; but it does not."""

    def moments(self, x):
        context = tf.distribute.get_replica_context()
        self.replicas = 1 if context is None else context.num_replicas_in_sync
        return super().moments(x)


def counting_norm():
    return classifier([dense(name="before"), CountingNorm(name="norm"), dense()]), (X, Y)


class SummedTwice(OwnStep):
    """Sums gradients over the replicas before the optimizer does."""

    def update(self, gradients):
        context = tf.distribute.get_replica_context()
        super().update(context.all_reduce(tf.distribute.ReduceOp.SUM, gradients))


def summed_twice():
    return with_step(SummedTwice)


class TimesReplicas(OwnStep):
    """Multiplies the loss by the number of replicas."""

    def loss_of(self, y, y_pred):
        return super().loss_of(y, y_pred) * tf.distribute.get_strategy().num_replicas_in_sync


def times_replicas():
    return with_step(TimesReplicas)


class RootStep(OwnStep):
    """Takes the root of a mean over a replica's rows."""

    def loss_of(self, y, y_pred):
        return tf.sqrt(super().loss_of(y, y_pred))


def root_of_the_loss():
    return with_step(RootStep)


class NetOfVariance(Net):
    """Keeps a variance in its own call, where no layer can be run on the rows of all replicas."""

    def build(self, shape):
        super().build(shape)
        self.variance = self.add_weight(shape=shape[1:], initializer="zeros", trainable=False, name="variance")

    def call(self, x, training=False):
        if training:
            self.variance.assign(0.5 * self.variance + 0.5 * tf.math.reduce_variance(x, axis=0))
        return super().call(x / tf.sqrt(self.variance + 1.0))


def variance_in_call():
    return compiled(NetOfVariance()), (X, Y)


class Noise(keras.layers.Layer):
    def call(self, x):
        return x + tf.random.normal(tf.shape(x), dtype=x.dtype)


def custom_noise():
    return classifier([Noise(), dense()]), (X, Y)


# What is no model to compare.


def returns_a_model():
    return classifier([dense()])


def not_compiled():
    return keras.Sequential([dense()]), (X, Y)


def no_data():
    return classifier([dense()]), X


def cannot_train():
    return classifier([dense()]), (X[:, :3], Y)


A_NUMBER = 3


def raises():
    """Fails by itself."""
    return 1 / 0
