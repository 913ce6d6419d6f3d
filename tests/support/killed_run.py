"""A training with all kinds of states that is killed and resumed, beside the undisturbed one: each in a process.

Usage: python killed_run.py FOLDER WAY; one import of TensorFlow serves all processes, which are forked before it runs.
"""

import os
import pathlib
import signal
import sys

import keras
import numpy as np
import tensorflow as tf

import tfdist
from tfdist.callbacks.base import Callback
from tfdist.strategy import hardware

KILLED_AFTER, EPOCHS, BATCH = 4, 3, 8


class Observer(keras.layers.Layer):
    """Keeps a running mean, a count, and on each replica the last row that it has seen."""

    def build(self, shape):
        more = {"trainable": False, "initializer": "zeros"}
        self.mean = self.add_weight(name="mean", shape=shape[-1:], **more)
        self.count = self.add_weight(name="count", shape=(), dtype="int64", **more)
        self.last = tfdist.keep_per_replica(self.add_weight(name="last", shape=shape[-1:], **more))

    def call(self, x, training=False):
        before = x - self.mean + 0.1 * tf.convert_to_tensor(self.last)
        if training:
            self.mean.assign(0.8 * self.mean + 0.2 * tf.reduce_mean(x, 0))
            self.count.assign_add(tf.shape(x, tf.int64)[0])
            self.last.assign(x[-1])
        return before


class TwoOptimizers(keras.Model):
    """Trains its two layers in turn, each with an optimizer of its own, and holds states of other kinds."""

    def __init__(self):
        super().__init__()
        self.observer = Observer()
        self.first = keras.layers.Dense(4, "tanh")
        self.second = keras.layers.Dense(1)
        self.optimizers = {name: keras.optimizers.Adam(0.05) for name in ("first", "second")}
        self.scale = [tf.Variable(tf.ones([], keras.config.floatx()), trainable=False)]
        self.seen = keras.metrics.Mean(name="seen")

    def build(self, shape):
        for layer, columns in ((self.observer, shape[-1]), (self.first, shape[-1]), (self.second, 4)):
            layer.build((None, columns))

    @property
    def metrics(self):
        # Without `seen`, which no epoch resets.
        return [self._loss_tracker]

    def call(self, x, training=False):
        return self.second(self.first(self.observer(x, training=training))) * self.scale[0]

    def train_step(self, data):
        x, y = data
        for name, part in (("first", self.first), ("second", self.second)):
            with tf.GradientTape() as tape:
                loss = keras.ops.mean((self(x, training=name == "first") - y) ** 2)
            weights = part.trainable_variables
            self.optimizers[name].apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        self.scale[0].assign(self.scale[0] * 0.99)
        self.seen.update_state(keras.ops.mean(y))
        return {"loss": loss}


class Average(Callback):
    """Keeps an average of the weights, in a copy made when the training begins."""

    every_steps = 1

    def on_train_begin(self, logs=None):
        with self.model.distribute_strategy.scope():
            self.copy = [tf.Variable(np.asarray(weight), trainable=False) for weight in self.model.first.weights]

    def on_step_end(self, step, logs=None):
        for mine, weight in zip(self.copy, self.model.first.weights, strict=True):
            mine.assign(0.9 * mine + 0.1 * np.asarray(weight))


class Kill(Callback):
    """Kills the process before a step."""

    def on_train_batch_begin(self, batch, logs=None):
        if self.steps_before + batch == KILLED_AFTER:
            os.kill(os.getpid(), signal.SIGKILL)


def make_model(strategy, *, built):
    """Makes the model; its optimizers are built now, or when a run resumes."""
    keras.utils.set_random_seed(5)
    with strategy.scope():
        model = TwoOptimizers()
        model.compile()
        model.build((None, 3))
        if built:
            for name, part in (("first", model.first), ("second", model.second)):
                model.optimizers[name].build(part.trainable_variables)
    return model


def train(folder, way):
    """Trains, and writes what it ends with, unless it is killed."""
    keras.config.set_floatx("float64")
    cpus = hardware.logical_cpus(2)
    strategy = tf.distribute.MirroredStrategy(cpus, cross_device_ops=tf.distribute.ReductionToOneDevice())
    rng = np.random.default_rng(0)
    data = tf.data.Dataset.from_tensor_slices((rng.normal(size=(21, 3)), rng.normal(size=(21, 1))))
    model, average = make_model(strategy, built=way != "resumed"), Average()
    run_dir = {} if way == "undisturbed" else {"run_dir": folder / "run", "checkpoint_every_steps": 1}
    more = [Kill()] if way == "killed" else []
    shuffled = data.shuffle(21, seed=3).batch(BATCH)
    tfdist.fit(model, shuffled, epochs=EPOCHS, verbose=0, callbacks=[average, *more], **run_dir)
    optimizers = [variable for optimizer in model.optimizers.values() for variable in optimizer.variables]
    values = [*model.weights, *optimizers, model.scale[0], *average.copy, model.seen.result()]
    values += [part.numpy() for part in model.observer.last.value.values]
    np.savez(folder / f"{way}.npz", *map(np.asarray, values))


if __name__ == "__main__":
    for each in ("undisturbed", "killed", "resumed"):
        child = os.fork()
        if child == 0:
            train(pathlib.Path(sys.argv[1]), each)
            os._exit(0)
        print(each, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
