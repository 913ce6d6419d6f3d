"""The kinds of training, evaluation and prediction that are compared, each small, smooth and without random layers."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tfdist import gradients, training
from tfdist.data.sources.arrays import from_arrays
from tfdist.training.predict import predict as predict_rows

# Two whole batches, and a short one that the replicas do not divide.
BATCH, ROWS, EPOCHS = 24, 53, 2
_CLASSES, _TOKENS, _WORDS = 4, 6, 10


@dataclasses.dataclass(frozen=True)
class Loops:
    """Keras' own loops or those of tfdist, which have the same arguments.

    Attributes:
        strategy: the strategy in whose scope the models are made.
        fit, evaluate, predict: as the methods of `keras.Model`, with the model first.
        by_hand: a function (model, source, loss) that trains; the loss is a function (y, outputs, gather) → one loss
            per row, where gather returns the rows of all replicas.
    """

    strategy: tf.distribute.Strategy
    fit: Callable[..., Any]
    evaluate: Callable[..., Any]
    predict: Callable[..., Any]
    by_hand: Callable[..., Any]


def keras_loops():
    """Returns the `Loops` of plain Keras on the default device."""
    strategy = tf.distribute.get_strategy()
    return Loops(strategy, keras.Model.fit, keras.Model.evaluate, keras.Model.predict, _fit_batches)


def tfdist_loops(strategy):
    """Returns the `Loops` of tfdist on a strategy."""
    return Loops(strategy, training.fit, training.evaluate, predict_rows, _run_batches)


def mlp(loops, **arguments):
    """Trains dense layers; further arguments are those of `tfdist.fit`."""
    return _fitted(loops, _make_mlp, *_vectors(), **arguments)


def cnn_batchnorm(loops):
    """Trains a convolution with BatchNormalization, whose statistics are over the rows of all replicas."""
    images = np.random.default_rng(1).normal(size=(ROWS, 8, 8, 2)).astype("float32")

    def make():
        return keras.Sequential(
            [
                keras.Input((8, 8, 2)),
                layers.Conv2D(8, 3),
                layers.BatchNormalization(),
                layers.Activation("tanh"),
                layers.GlobalAveragePooling2D(),
                layers.Dense(_CLASSES),
            ]
        )

    return _fitted(loops, make, images, _vectors()[1])


def lstm_masks(loops):
    """Trains an LSTM on rows of different lengths, padded with zeros that a mask leaves out."""

    def make():
        words = [keras.Input((_TOKENS,), dtype="int32"), layers.Embedding(_WORDS, 8, mask_zero=True)]
        return keras.Sequential([*words, layers.LSTM(8), layers.Dense(_CLASSES)])

    return _fitted(loops, make, *_sentences())


def attention(loops):
    """Trains self-attention with LayerNormalization."""

    def make():
        words = keras.Input((_TOKENS,), dtype="int32")
        x = layers.Embedding(_WORDS, 8)(words)
        x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 4)(x, x))
        return keras.Model(words, layers.Dense(_CLASSES)(layers.GlobalAveragePooling1D()(x)))

    return _fitted(loops, make, *_sentences())


def accumulation(loops):
    """Trains with an update at every second step."""
    return _fitted(loops, _make_mlp, *_vectors(), gradient_accumulation_steps=2)


def clipping_ema(loops):
    """Trains with gradients clipped by their global norm, and with a moving average of the weights."""
    return _fitted(loops, _make_mlp, *_vectors(), global_clipnorm=0.1, use_ema=True, ema_momentum=0.9)


def evaluate(loops):
    """Evaluates loss, accuracy and AUC."""
    x, y = _vectors()
    with loops.strategy.scope():
        model = _with_weights(keras.Sequential([keras.Input(x.shape[1:]), layers.Dense(1, "sigmoid")]))
        model.compile(loss="binary_crossentropy", metrics=["accuracy", keras.metrics.AUC(name="auc")])
    logs = loops.evaluate(model, x, (y > 1).astype("float32")[:, None], batch_size=BATCH, verbose=0, return_dict=True)
    return {name: [float(value)] for name, value in logs.items()}


def predict(loops):
    """Predicts every row: the replicas' outputs are gathered in the order of the rows."""
    x, _ = _vectors()
    with loops.strategy.scope():
        model = _with_weights(_make_mlp())
    return {"outputs": loops.predict(model, x, batch_size=BATCH, verbose=0).ravel().tolist()}


def loop_by_hand(loops):
    """Trains in a loop of one's own, on shuffled batches."""
    return _looped(loops, _cross_entropy)


def gather_rows(loops):
    """Trains in such a loop with a loss between each row and the rows of all replicas."""

    def loss(y, outputs, gather):
        distances = tf.square(outputs[:, tf.newaxis] - gather(outputs)[tf.newaxis])
        return _cross_entropy(y, outputs, gather) + tf.reduce_mean(distances, axis=[1, 2])

    return _looped(loops, loss)


KINDS = {
    kind.__name__: kind
    for kind in (
        *(mlp, cnn_batchnorm, lstm_masks, attention, accumulation, clipping_ema),
        *(evaluate, predict, loop_by_hand, gather_rows),
    )
}


def _vectors():
    """Returns (x, y): float32 (ROWS, 12) and int32 (ROWS,)."""
    x = np.random.default_rng(0).normal(size=(ROWS, 12)).astype("float32")
    return x, x[:, :_CLASSES].argmax(axis=1).astype("int32")


def _sentences():
    """Returns (words, y): int32 (ROWS, _TOKENS) with 0 behind the last word, and int32 (ROWS,)."""
    random = np.random.default_rng(2)
    words = random.integers(1, _WORDS, size=(ROWS, _TOKENS))
    lengths = random.integers(1, _TOKENS + 1, size=(ROWS, 1))
    return (words * (np.arange(_TOKENS) < lengths)).astype("int32"), (words[:, 0] % _CLASSES).astype("int32")


def _make_mlp():
    return keras.Sequential([keras.Input((12,)), layers.Dense(16, "tanh"), layers.Dense(_CLASSES)])


def _with_weights(model):
    """Sets kernels from NumPy, because devices may draw different random numbers from the same seed."""
    random = np.random.default_rng(3)
    for weight in model.trainable_weights:
        if len(weight.shape) > 1:
            weight.assign(random.normal(size=weight.shape) / np.sqrt(np.prod(weight.shape[:-1])))
    return model


def _compiled(loops, make, loss, **optimizer):
    with loops.strategy.scope():
        model = _with_weights(make())
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9, **optimizer), loss)
    return model


def _fitted(loops, make, x, y, *, compression=None, **optimizer):
    model = _compiled(loops, make, keras.losses.SparseCategoricalCrossentropy(from_logits=True), **optimizer)
    more = {"compression": compression} if compression else {}
    before = _weights(model)
    loops.fit(model, x, y, batch_size=BATCH, epochs=EPOCHS, shuffle=False, verbose=0, **more)
    return _changes(before, model)


def _looped(loops, loss):
    # Where no replicas are, a gathered row is the row itself.
    model = _compiled(loops, _make_mlp, lambda y, outputs: loss(y, outputs, tf.identity))
    before = _weights(model)
    loops.by_hand(model, from_arrays(*_vectors(), global_batch=BATCH), loss)
    return _changes(before, model)


def _cross_entropy(y, outputs, gather):
    return keras.losses.sparse_categorical_crossentropy(y, outputs, from_logits=True)


def _fit_batches(model, source, loss):
    for epoch in range(EPOCHS):
        model.fit(source.dataset(epoch), shuffle=False, verbose=0)


def _run_batches(model, source, loss):
    strategy, weights = model.distribute_strategy, model.trainable_variables

    @tf.function(reduce_retracing=True)
    def train_step(x, y):
        with tf.GradientTape() as tape:
            mean = gradients.global_mean(loss(y, model(x, training=True), gradients.gather_rows))
        gradients.apply_gradients(model.optimizer, tape.gradient(mean, weights), weights)

    with training.open_run(None, model, model.optimizer, source) as run:
        for batch in run.batches(epochs=EPOCHS):
            strategy.run(train_step, args=batch)


def _weights(model):
    return [np.asarray(weight).astype("float64") for weight in model.weights]


def _changes(before, model):
    """Returns a weight's place in the model → list of how much training has changed each of its numbers."""
    # Not its path, because Keras numbers layers by how many there were in the process.
    pairs = zip(before, _weights(model), strict=True)
    return {str(place): (new - old).ravel().tolist() for place, (old, new) in enumerate(pairs)}
