"""What two workers do for `tests/test_calls_on_workers.py`."""

import contextlib
import warnings

import keras
import numpy as np
import tensorflow as tf
from support import jobs

import tfdist


class Reads(keras.callbacks.Callback):
    """Reads variables as numbers after each batch and at the end of an epoch, on the chief alone."""

    every_worker = False

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        """Reads the optimizer's counter."""
        self.seen.append(int(self.model.optimizer.iterations))

    def on_epoch_end(self, epoch, logs=None):
        """Reads other numbers."""
        optimizer = self.model.optimizer
        self.seen += [float(optimizer.learning_rate), f"{optimizer.learning_rate:.2f}"]
        self.seen += [float(np.asarray(self.model.weights[0]).sum()), bool(optimizer.iterations > 0)]


def read_in_callbacks(strategy):
    """Returns what a callback of the chief reads, and what the scope reads before and after."""
    with strategy.scope():
        model = jobs.make_mlp(keras.optimizers.SGD(0.25))
        before = int(model.optimizer.iterations), float(model.optimizer.learning_rate)
    reads = Reads()
    tfdist.fit(model, jobs.small_source(40), epochs=1, verbose=0, callbacks=[reads], steps_per_execution=1)
    return reads.seen, before, float(np.asarray(model.weights[0]).sum())


def evaluate_on_the_chief(strategy, method):
    """Calls a method in a callback of the chief alone; returns the message of the refusal, None on the others."""
    model = _model(strategy)
    x, y = jobs.make_rows(20)
    calls = {
        "tfdist.evaluate": lambda: tfdist.evaluate(model, x, y, verbose=0),
        "tfdist.predict": lambda: tfdist.predict(model, x, verbose=0),
        "model.evaluate": lambda: model.evaluate(x, y, verbose=0),
        "model.predict": lambda: model.predict(x, verbose=0),
        "reading a metric": lambda: float(model.metrics[0].result()),
    }
    told = []

    def call(epoch, logs):
        # Caught, so that both workers go on: the refusal itself must not leave anything behind.
        with contextlib.suppress(ValueError):
            try:
                calls[method]()
            except ValueError as error:
                told.append(str(error))
                raise

    alone = keras.callbacks.LambdaCallback(on_epoch_end=call)
    alone.every_worker = False
    tfdist.fit(model, x, y, epochs=1, batch_size=10, verbose=0, callbacks=[alone])
    return told[0] if told else None


def evaluate_on_every_worker(strategy):
    """Returns what a callback of every worker evaluates and predicts."""
    model = _model(strategy)
    x, y = jobs.make_rows(20)
    seen = []

    def call(epoch, logs):
        seen.append(tfdist.evaluate(model, x, y, verbose=0)[0])
        seen.append(float(tfdist.predict(model, x, verbose=0).sum()))

    together = keras.callbacks.LambdaCallback(on_epoch_end=call)
    together.every_worker = True
    tfdist.fit(model, x, y, epochs=1, batch_size=10, verbose=0, callbacks=[together])
    return seen


def _model(strategy):
    with strategy.scope():
        return jobs.make_mlp()


@jobs.double_precision()
def divided_data(strategy):
    """Trains on a data set that the strategy has divided; returns (weights, warnings)."""
    model = _model(strategy)
    data = strategy.experimental_distribute_dataset(global_batches())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        tfdist.fit(model, data, epochs=2, verbose=0)
    return jobs.weights_of(model), [str(each.message) for each in told]


def global_batches():
    """Returns 34 rows in batches of 10, the last one of 4."""
    return tf.data.Dataset.from_tensor_slices(jobs.make_rows(34)).batch(10)


def own_optimizers(strategy):
    """Trains by hand with two optimizers that nothing has built; returns (weights, steps of each)."""
    with strategy.scope():
        model = jobs.make_mlp()
        optimizers = [keras.optimizers.SGD(0.3, momentum=0.9), keras.optimizers.Adam(0.05, epsilon=0.1)]
    return train_in_turns(model, optimizers, strategy)


def train_in_turns(model, optimizers, strategy):
    """Trains the first and the other variables with an optimizer each; returns (weights, steps of each)."""
    loss_fn = keras.losses.SparseCategoricalCrossentropy(reduction=None)
    parts = model.trainable_variables[:2], model.trainable_variables[2:]

    @tf.function(reduce_retracing=True)
    def train_step(x, y):
        for optimizer, variables in zip(optimizers, parts, strict=True):
            with tf.GradientTape() as tape:
                loss = tfdist.global_mean(loss_fn(y, model(x, training=True)))
            tfdist.apply_gradients(optimizer, tape.gradient(loss, variables), variables)

    source = jobs.small_source(34)
    for x, y in source.distribute(strategy):
        strategy.run(train_step, args=(x, y))
    return jobs.weights_of(model), [int(optimizer.iterations) for optimizer in optimizers]
