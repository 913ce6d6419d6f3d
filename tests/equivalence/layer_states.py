"""Rows of the table: layers and models with a state of their own, which their step assigns."""

import keras
import tensorflow as tf


class RunningMean(keras.layers.Layer):
    """Subtracts a running mean, as it was before the step or as it is after it."""

    def __init__(self, *, after=False, aggregation="none", plain=False):
        super().__init__()
        self._after, self._aggregation, self._plain = after, aggregation, plain

    def build(self, shape):
        if self._plain:
            # A weight too, so that the table sees whether the variable is right: the outputs depend on it.
            self.mean = tf.Variable(tf.zeros(shape[-1:], self.dtype), trainable=False)
        else:
            more = {"trainable": False, "initializer": "zeros", "aggregation": self._aggregation}
            self.mean = self.add_weight(name="mean", shape=shape[-1:], **more)

    def call(self, x, training=False):
        before = tf.convert_to_tensor(self.mean)
        if training:
            self._set(0.8 * before + 0.2 * tf.reduce_mean(x, axis=0))
        return x - (tf.convert_to_tensor(self.mean) if self._after else before)

    def _set(self, value):
        self.mean.assign(value)
        return 0


class MeanInBranch(RunningMean):
    """Assigns in a branch."""

    def _set(self, value):
        tf.cond(tf.reduce_sum(value) > -1e9, lambda: super(MeanInBranch, self)._set(value), lambda: 0)


class MeanInFunction(RunningMean):
    """Assigns in a function."""

    def _set(self, value):
        tf.function(super()._set)(value)


class Counters(keras.layers.Layer):
    """Counts steps, rows and labels' signs; the outputs depend on all."""

    def build(self, shape):
        def count(name, dtype, **more):
            return self.add_weight(name=name, shape=(), dtype=dtype, initializer="zeros", trainable=False, **more)

        self.steps, self.rows = count("steps", "int32"), count("rows", "int64")
        self.positive = count("positive", self.dtype, aggregation="sum")
        self.any_large = count("any_large", "bool")

    def call(self, x, training=False):
        if training:
            self.steps.assign_add(1)
            self.rows.assign_add(tf.shape(x, tf.int64)[0])
            self.positive.assign(self.positive + tf.reduce_sum(tf.cast(x[:, 0] > 0, x.dtype)))
            self.any_large.assign(tf.logical_or(self.any_large, tf.reduce_any(x > 0.9)))
        scale = tf.cast(tf.convert_to_tensor(self.steps), x.dtype) + tf.cast(tf.convert_to_tensor(self.rows), x.dtype)
        return x * (1 + 0.01 * scale + 0.01 * tf.convert_to_tensor(self.positive))


class Codebook(keras.layers.Layer):
    """Replaces rows by the nearest of some codes, which follow the rows; the layer itself sums over the replicas."""

    def build(self, shape):
        def weight(name, shape, start):
            return self.add_weight(name=name, shape=shape, initializer=start, trainable=False)

        self.codes = weight("codes", (4, shape[-1]), keras.initializers.RandomNormal(seed=3))
        self.counts, self.sums = weight("counts", (4,), "ones"), weight("sums", (4, shape[-1]), "ones")

    def call(self, x, training=False):
        near = tf.argmin(tf.reduce_sum((x[:, None] - tf.convert_to_tensor(self.codes)[None]) ** 2, -1), -1)
        hot = tf.one_hot(near, 4, dtype=x.dtype)
        codes = tf.matmul(hot, tf.convert_to_tensor(self.codes))
        if training:
            counts, sums = over_all_replicas([tf.reduce_sum(hot, 0), tf.matmul(hot, x, transpose_a=True)])
            self.counts.assign(0.9 * self.counts + 0.1 * counts)
            self.sums.assign(0.9 * self.sums + 0.1 * sums)
            self.codes.assign(self.sums / self.counts[:, None])
        return x + tf.stop_gradient(codes - x)


def over_all_replicas(values):
    """Sums over the replicas as TensorFlow does; on a replica without rows of its own, its row counts for nothing."""
    context = tf.distribute.get_replica_context()
    values = [tf.stop_gradient(value) for value in values]
    return context.all_reduce("sum", values) if context.num_replicas_in_sync > 1 else values


class Follower(keras.Model):
    """Has a train_step of its own, a second model that follows the first, and a running mean of the loss."""

    def __init__(self, model, follower):
        super().__init__()
        self.student, self.follower = model, follower
        self.mean_loss = self.add_weight(name="mean_loss", shape=(), initializer="zeros", trainable=False)

    def call(self, x, training=False):
        return self.student(x, training=training)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            near = keras.ops.mean((y_pred - self.follower(x)) ** 2)
            loss = self.compute_loss(x, y, y_pred) + near * (1 + self.mean_loss)
        variables = self.student.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        self.mean_loss.assign(0.5 * self.mean_loss + 0.5 * loss)
        for mine, theirs in zip(self.follower.weights, self.student.weights, strict=True):
            mine.assign(0.7 * mine + 0.3 * theirs)
        return {"loss": loss}


def follower():
    """Builds and compiles a `Follower`."""
    keras.utils.set_random_seed(11)
    models = [keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, "tanh")]) for _ in range(2)]
    for model in models:
        model.trainable = model is models[0]
    model = Follower(*models)
    model.build((None, 4))
    model.compile(keras.optimizers.SGD(0.3), "mse")
    return model


def layer_states(add, mlp, regression):
    """Adds the rows to the table; the arguments are those of `cases.py`."""

    def with_layer(*layers, **options):
        return lambda: mlp(hidden=layers, **options)

    def row(name, *layers, workers=False, **options):
        add("layer state", name, with_layer(*layers, **options), workers=workers)

    row("a running mean, read before it is assigned", RunningMean, workers=True)
    row("a running mean, read after it is assigned", lambda: RunningMean(after=True), workers=True)
    row("a running mean, aggregation=mean", lambda: RunningMean(after=True, aggregation="mean"))
    row("two running means, one behind the other", RunningMean, lambda: RunningMean(after=True))
    row("a running mean, assigned in a branch", MeanInBranch, workers=True)
    row("a running mean, assigned in a function", MeanInFunction)
    row("a running mean, jit_compile", RunningMean, jit_compile=True)
    row("a tf.Variable", lambda: RunningMean(after=True, plain=True))
    row("counters of steps, of rows, of a sum, and a flag", Counters, workers=True)
    row("a codebook that sums over the replicas", Codebook)
    row("SpectralNormalization", lambda: keras.layers.SpectralNormalization(keras.layers.Dense(6)))
    row("run eagerly", lambda: RunningMean(after=True), run_eagerly=True)
    one_by_one = with_layer(RunningMean, Counters)
    add("layer state", "batches of one row", one_by_one, batch_size=1, epochs=1)
    add("layer state", "a train step that assigns, and a model that follows", follower, regression, workers=True)
