"""Rows of the table: layers whose outputs or states depend on the rows together, and not as a mean."""

import keras
import tensorflow as tf
from equivalence.layer_states import MeanInBranch, MeanInFunction, RunningMean

# What the variables say must not matter.
AGGREGATIONS = ("none", "mean", "sum", "only_first_replica")


class Stateful(keras.layers.Layer):
    """A layer that adds states of one aggregation."""

    def __init__(self, aggregation="none"):
        super().__init__()
        self._aggregation = aggregation

    def state(self, name, shape, start="zeros", **more):
        more = {"aggregation": self._aggregation, "trainable": False, **more}
        return self.add_weight(name=name, shape=shape, initializer=start, **more)


class FollowingCodebook(Stateful):
    """Replaces rows by the nearest of some codes, which follow the rows by means of counts and sums (VQ-VAE)."""

    def build(self, shape):
        self.codes = self.state("codes", (4, shape[-1]), keras.initializers.RandomNormal(seed=3))
        self.counts, self.sums = self.state("counts", (4,), "ones"), self.state("sums", (4, shape[-1]), "ones")

    def call(self, x, training=False):
        near = tf.argmin(tf.reduce_sum((x[:, None] - tf.convert_to_tensor(self.codes)[None]) ** 2, -1), -1)
        hot = tf.one_hot(near, 4, dtype=x.dtype)
        codes = tf.matmul(hot, tf.convert_to_tensor(self.codes))
        if training:
            self.counts.assign(0.9 * self.counts + 0.1 * tf.reduce_sum(hot, 0))
            self.sums.assign(0.9 * self.sums + 0.1 * tf.matmul(hot, x, transpose_a=True))
            self.codes.assign(self.sums / self.counts[:, None])
        return x + tf.stop_gradient(codes - x)


class CommittedCodebook(FollowingCodebook):
    """Adds a loss, and returns how many codes are in use beside the rows."""

    def call(self, x, training=False):
        outputs = super().call(x, training=training)
        self.add_loss(0.3 * tf.reduce_mean((tf.stop_gradient(outputs) - x) ** 2))
        return outputs * (1 + 0.1 * tf.math.reduce_std(self.counts))


class RunningVariance(Stateful):
    """Divides by a running deviation."""

    def build(self, shape):
        self.variance = self.state("variance", shape[1:], "ones")

    def call(self, x, training=False):
        if training:
            self.variance.assign(0.5 * self.variance + 0.5 * tf.math.reduce_variance(x, axis=0))
        return x / tf.sqrt(self.variance + 0.1)


class MemoryBank(Stateful):
    """Attends to a queue of the newest rows."""

    def build(self, shape):
        self.bank = self.state("bank", (6, shape[-1]), keras.initializers.RandomNormal(seed=3))
        self.filled = self.state("filled", (), dtype="int32")

    def call(self, x, training=False):
        bank = tf.convert_to_tensor(self.bank)
        near = tf.nn.softmax(tf.matmul(x, bank, transpose_b=True))
        if training:
            self.bank.assign(tf.concat([tf.stop_gradient(x), bank], axis=0)[:6])
            self.filled.assign(tf.minimum(6, self.filled + tf.shape(x)[0]))
        return x + tf.matmul(near, bank) * (1 + 0.1 * tf.cast(tf.convert_to_tensor(self.filled), x.dtype))


class RunningMaximum(Stateful):
    """Divides by the largest values seen."""

    def build(self, shape):
        self.largest = self.state("largest", shape[1:], keras.initializers.Constant(0.01))

    def call(self, x, training=False):
        if training:
            self.largest.assign(tf.maximum(self.largest, tf.reduce_max(tf.abs(x), axis=0)))
        return x / (self.largest + 0.5)


class OwnMoments(Stateful):
    """Normalizes by the moments of the batch in training, and by running ones afterwards."""

    def build(self, shape):
        self.scale = self.add_weight(name="scale", shape=shape[1:], initializer="ones")
        self.mean, self.variance = self.state("mean", shape[1:]), self.state("variance", shape[1:], "ones")

    def call(self, x, training=False):
        if training:
            mean, variance = tf.nn.moments(x, axes=[0])
            self.mean.assign(0.9 * self.mean + 0.1 * mean)
            self.variance.assign(0.9 * self.variance + 0.1 * variance)
        else:
            mean, variance = tf.convert_to_tensor(self.mean), tf.convert_to_tensor(self.variance)
        return (x - mean) / tf.sqrt(variance + 1e-2) * self.scale


class CountedRows(Stateful):
    """Counts rows, and each takes part in what the others become."""

    def build(self, shape):
        self.rows = self.state("rows", (), dtype="int64")

    def call(self, x):
        self.rows.assign_add(tf.shape(x, tf.int64)[0])
        rows = tf.cast(tf.convert_to_tensor(self.rows), x.dtype)
        return x * (1 + 0.01 * rows) - tf.reduce_max(x, axis=0) * tf.nn.sigmoid(x)


class Block(keras.layers.Layer):
    """Has layers of Keras' around one of the user's own."""

    def __init__(self, inner, *, norm=False):
        super().__init__()
        self.first, self.last = keras.layers.Dense(6, "tanh"), keras.layers.Dense(6)
        self.inner, self.norm = inner, keras.layers.BatchNormalization() if norm else None

    def call(self, x, training=False):
        x = self.inner(self.first(x), training=training)
        return self.last(self.norm(x, training=training) if self.norm else x)


class NormedMaximum(RunningMaximum):
    """Has a BatchNormalization within."""

    def __init__(self):
        super().__init__()
        self.norm = keras.layers.BatchNormalization()

    def call(self, x, training=False):
        return super().call(self.norm(x, training=training), training=training)


class VectorTrainer(keras.Model):
    """Has a `train_step` that calls the model within it, and no `call`."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self.inner(x, training=True) - y) ** 2)
            loss += tf.add_n([tf.zeros([], loss.dtype), *self.inner.losses])
        gradients = tape.gradient(loss, self.inner.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.inner.trainable_variables, strict=True))
        return {"loss": loss}


def vector_trainer(layer):
    """Builds and compiles a `VectorTrainer`."""
    keras.utils.set_random_seed(11)
    layers = [keras.layers.Dense(6, "tanh"), layer(), keras.layers.Dense(2)]
    model = VectorTrainer(keras.Sequential([keras.Input((4,)), *layers]))
    model.built = True
    model.compile(keras.optimizers.SGD(0.3))
    return model


def centred():
    """Subtracts the mean of the batch in a function."""
    return keras.layers.Lambda(lambda x: x - tf.reduce_mean(x, axis=0))


def joint_states(add, mlp, regression):
    """Adds the rows to the table; the arguments are those of `cases.py`."""

    def row(name, *layers, workers=False, fit=None, **options):
        add("layer state", name, lambda: mlp(hidden=layers, **options), workers=workers, **(fit or {}))

    kinds = {
        "a codebook": FollowingCodebook,
        "a variance": RunningVariance,
        "a memory bank": MemoryBank,
        "a maximum": RunningMaximum,
        "moments of its own": OwnMoments,
    }
    for number, (name, kind) in enumerate(kinds.items()):
        row(f"{name} without sums", kind, workers=number % 2 == 0)
        aggregation = AGGREGATIONS[1 + number % 3]
        row(f"{name}, aggregation={aggregation}", lambda kind=kind, how=aggregation: kind(how))
    for aggregation in ("sum", "only_first_replica"):
        row(f"a running mean, aggregation={aggregation}", lambda how=aggregation: RunningMean(aggregation=how))
    row("a running mean, assigned in a branch, then read", lambda: MeanInBranch(after=True))
    row("a running mean, assigned in a function, then read", lambda: MeanInFunction(after=True))
    row("a codebook with a loss", CommittedCodebook)
    row("rows that are counted and compared", CountedRows)
    row("a function that centres the batch", centred, workers=True)
    row("a memory bank in a block with BatchNormalization", lambda: Block(MemoryBank(), norm=True))
    row("BatchNormalization in a layer with a maximum", NormedMaximum)
    row("two that couple rows, one behind the other", OwnMoments, lambda: Block(FollowingCodebook("sum")))
    row("moments of its own, run eagerly", OwnMoments, run_eagerly=True)
    row("a memory bank, jit_compile=auto", MemoryBank, jit_compile="auto")
    row("a codebook, batches of one row", FollowingCodebook, fit={"batch_size": 1, "epochs": 1})
    add(
        "layer state", "a codebook in a train step", lambda: vector_trainer(CommittedCodebook), regression, workers=True
    )
    add("layer state", "moments of its own in a train step", lambda: vector_trainer(OwnMoments), regression)
