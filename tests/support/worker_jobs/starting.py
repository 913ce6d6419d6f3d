"""A model whose layers are frozen and thawed, and pictures of predictions, for tests and for what two workers do."""

import keras
import numpy as np
import tensorflow as tf
from support import jobs

import tfdist
from tfdist.assembly import start

X = np.random.default_rng(0).normal(size=(45, 6))
Y = np.random.default_rng(1).integers(0, 3, 45)
SPEC = (tf.TensorSpec((None, 6), tf.float64), tf.TensorSpec((None,), tf.int64))


def make_model():
    """Returns a compiled model of a backbone and a head."""
    keras.utils.set_random_seed(5)
    x = keras.Input((6,))
    layers = [keras.layers.Dense(8, name="first"), keras.layers.BatchNormalization(name="norm"), keras.layers.ReLU()]
    backbone = keras.Sequential([keras.Input((6,)), *layers], name="backbone")
    model = keras.Model(x, keras.layers.Dense(3, "softmax", name="head")(backbone(x)))
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    return model


def train(strategy, options, **arguments):
    """Prepares a model with `StartOptions` and trains it; returns it."""
    with strategy.scope():
        model = make_model()
    callbacks = start.prepare(model, options, SPEC, is_fresh=True)
    tfdist.fit(model, X, Y, batch_size=10, verbose=0, shuffle=False, callbacks=callbacks, **arguments)
    return model


def thaw_and_draw(strategy, options, folder):
    """Returns the weights after a training with `StartOptions`; draws into a folder of each worker's own."""
    with jobs.double_precision():
        model = train(strategy, options, epochs=3)
    with strategy.scope():
        drawn = tfdist.models.build("mlp", classes=10, input_shape=(8, 8, 1), hidden=(4,))
        drawn.compile("sgd", "sparse_categorical_crossentropy")
    resolver = strategy.cluster_resolver
    sheet = tfdist.callbacks.PredictionSheet(f"{folder}/{resolver.task_id}", tfdist.data.digits("test"), rows=5)
    tfdist.fit(drawn, tfdist.data.digits("train"), steps=2, verbose=0, callbacks=[sheet])
    return model.get_weights()
