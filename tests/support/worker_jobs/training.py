"""What two workers train for `tests/training/test_multi_worker.py`."""

import functools
import itertools
import logging
import shutil
import unittest.mock

import keras
import numpy as np
from support import jobs

import tfdist
from tfdist.internals.access import runtime
from tfdist.training import call_length

in_float64 = jobs.double_precision()


@in_float64
def fit(strategy, global_batch):
    """Trains on a small source; returns (weights, losses)."""
    model, history = _trained(strategy, global_batch)
    return jobs.weights_of(model), history["loss"]


@functools.cache
def _trained(strategy, global_batch):
    return jobs.train(strategy, jobs.small_source(global_batch))


@in_float64
def evaluate_and_predict(strategy):
    """Returns (evaluation, outputs of every row, places of this worker's own rows, outputs of those)."""
    model, _ = _trained(strategy, 34)
    x, y = jobs.make_rows()
    evaluation = tfdist.evaluate(model, x[:31], y[:31], batch_size=10, verbose=0)
    outputs = tfdist.predict(model, x[:31], batch_size=10, verbose=0)
    own = tfdist.predict(model, x[:31], batch_size=10, verbose=0, own_rows=True)
    return evaluation, outputs, *(np.concatenate(parts) for parts in zip(*own, strict=True))


@in_float64
def warnings_of_data(strategy, order):
    """Trains on data whose order is "same" on all workers, or "other" on each; returns the warnings."""
    seed = 1 if order == "same" else strategy.cluster_resolver.task_id
    with jobs.lines_of_tfdist(logging.WARNING) as said:
        jobs.train(strategy, jobs.tf_data(seed=seed), epochs=1)
    return said


@in_float64
def uneven_shards(strategy):
    """Trains where each worker brings another number of rows."""
    return _weights(strategy, jobs.uneven_shards())


class Tracker(keras.callbacks.Callback):
    """Stands in for the callback of a tracker of experiments: it writes a line per epoch where it runs."""

    __module__ = "mlflow.keras.callback"

    def __init__(self, path):
        super().__init__()
        self._path = path

    def on_epoch_end(self, epoch, logs=None):
        with self._path.open("a") as file:
            print(epoch, sorted(logs), file=file)


@in_float64
def recorded(strategy, folder):
    """Trains with a folder and a tracker; returns (weights, what was said)."""
    tracker = Tracker(folder / f"tracker-{strategy.cluster_resolver.task_id}")
    arguments = {"run_dir": folder / "recorded", "log_every_steps": 4, "callbacks": [tracker]}
    with jobs.lines_of_tfdist() as said:
        model, _ = jobs.train(strategy, jobs.small_source(20), **arguments)
    return jobs.weights_of(model), said


@in_float64
def overflow(strategy):
    """Trains through a step with infinite gradients."""
    return _weights(strategy, jobs.overflowing_source(), make_model=jobs.make_loss_scaling_mlp)


@in_float64
def rounded(strategy, exchange, compression):
    """Trains with gradients that are rounded for the network."""
    return _weights(strategy, jobs.small_source(34), exchange=exchange, compression=compression)


@in_float64
def as_on_gpus(strategy):
    """Trains with factors, and predicts, by the ways of exchange that GPUs take; returns (weights, outputs)."""
    with unittest.mock.patch.object(runtime, "is_on_cpus", lambda strategy: False):
        model, _ = jobs.train(strategy, jobs.small_source(34), exchange="factors")
        return jobs.weights_of(model), tfdist.predict(model, jobs.make_rows()[0][:31], batch_size=10, verbose=0)


@in_float64
def factors_in_one_call(strategy):
    """Trains on batches of 34, 34, 34 and 1 rows in one call, where one worker has none of the last."""
    return _weights(strategy, jobs.small_source(34), exchange="factors", steps_per_execution=3)


@in_float64
def lookups(strategy, kind):
    """Trains embeddings on a kind of `token_sources`."""
    source = jobs.token_sources()[kind]
    return _weights(strategy, source, make_model=jobs.make_embedding_mlp, steps_per_execution=3)


@in_float64
def batchnorm(strategy):
    """Trains with BatchNormalization."""
    return _weights(strategy, jobs.small_source(34), make_model=jobs.make_batchnorm_mlp)


def _weights(strategy, source, **arguments):
    return jobs.weights_of(jobs.train(strategy, source, **arguments)[0])


@in_float64
def by_hand(strategy, mean=tfdist.global_mean):
    """Trains with the loop of the README; returns the weights."""
    return jobs.weights_of(jobs.train_by_hand(strategy, jobs.small_source(34), mean=mean)[0])


@in_float64
def exchange(strategy, folder):
    """Trains with the exchange that is faster here, and once more with what the first run has found.

    Returns:
        For each of "measured" and "kept": (weights, what was said of the exchange).
    """
    results = {}
    for again in ("measured", "kept"):
        with jobs.lines_of_tfdist() as said:
            weights = _weights(strategy, jobs.wide_source(), make_model=jobs.make_wide_mlp, run_dir=folder / again)
        results[again] = weights, [line for line in said if line.startswith("exchange=auto")]
        if again == "measured" and strategy.cluster_resolver.task_id == 0:
            (folder / "kept").mkdir()
            shutil.copy(folder / again / "exchange.json", folder / "kept")
    return results


def half_precision(strategy, policy):
    """Trains in a policy; returns (weights, losses)."""
    keras.config.set_dtype_policy(policy)
    try:
        model, history = jobs.train(strategy, jobs.small_source(20), epochs=4)
        return jobs.weights_of(model), history["loss"]
    finally:
        keras.config.set_dtype_policy("float32")


@in_float64
def keras_callbacks(strategy, folder):
    """Trains with Keras' own callbacks; returns (weights, losses of the validation)."""
    model, history = jobs.train_with_callbacks(strategy, jobs.keras_callbacks(folder / "callbacks"))
    return jobs.weights_of(model), history["val_loss"]


@in_float64
def chief_decides(strategy):
    """Trains with a callback that is unknown to tfdist: it runs on the chief alone, and its decision is everybody's.

    Returns:
        (how often it ran here, epochs, learning rate at the end, weights)
    """

    def decide(epoch, logs):
        ran.append(epoch)
        model.optimizer.learning_rate = 0.01
        model.stop_training = epoch == 2

    ran = []
    with strategy.scope():
        model = jobs.make_mlp()
    lambdas = keras.callbacks.LambdaCallback(on_epoch_end=decide)
    history = tfdist.fit(model, jobs.small_source(20), epochs=9, callbacks=[lambdas], verbose=0).history
    return len(ran), len(history["loss"]), float(model.optimizer.learning_rate.numpy()), jobs.weights_of(model)


@in_float64
def backup_and_restore(strategy, folder):
    """Goes on after an exception with Keras' own callback; returns (weights, epochs after restoring)."""
    jobs.train_with_callbacks(strategy, [jobs.Interrupting(), *jobs.backup(folder)])
    model, history = jobs.train_with_callbacks(strategy, jobs.backup(folder))
    return jobs.weights_of(model), len(history["loss"])


@in_float64
def measured_calls(strategy, hook):
    """Measures with clocks that disagree: by the chief's, calls may grow; by the other's, each takes a minute.

    Args:
        strategy: over the two workers.
        hook: "by batch" for a callback that wants every batch; tfdist does not know it, and runs it on the chief alone.

    Returns:
        (the steps after which calls ended, weights)
    """
    readings = itertools.count(step=60 * strategy.cluster_resolver.task_id)
    clock = functools.partial(call_length.MeasuredLength, clock=lambda: next(readings))
    by_batch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)
    steps = jobs.StepsSeen()
    with strategy.scope():
        model = jobs.make_mlp()
    with unittest.mock.patch.object(call_length, "MeasuredLength", clock):
        tfdist.fit(
            model,
            jobs.small_source(20),
            epochs=2,
            steps_per_execution="auto",
            callbacks=[*([by_batch] if hook == "by batch" else []), steps],
            validation_data=jobs.make_rows(),
            verbose=0,
        )
    return steps.seen, jobs.weights_of(model)


def files(strategy, folder, kind):
    """Reads a kind of `file_sources`, and trains on it; returns (rows that this worker saw, losses)."""
    source = jobs.file_sources(folder)[kind]
    seen = jobs.rows_seen(strategy, source)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = tfdist.models.build("cnn", classes=3, input_shape=(6, 8, 3), filters=(4,), dense=8)
        model.compile("adam", loss="sparse_categorical_crossentropy")
    return seen, tfdist.fit(model, source, epochs=2, verbose=0).history["loss"]
