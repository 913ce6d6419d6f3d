"""What each worker of `test_multi_worker.py` runs: several jobs in one process, their results in a file.

Usage: python worker.py FOLDER, with TF_CONFIG set.
"""

import functools
import itertools
import logging
import os
import pathlib
import shutil
import sys
import unittest.mock

import keras
import numpy as np
from support import jobs

import tfdist
from tfdist.training import call_length


def main(folder):
    cluster = tfdist.read_cluster(os.environ)
    strategy = tfdist.choose_strategy("multi_worker", cluster=cluster)
    with jobs.double_precision():
        results = train_jobs(strategy)
        results |= callback_jobs(strategy, folder)
        results |= call_length_jobs(strategy)
        results |= exchange_jobs(strategy, folder)
    results |= half_precision_jobs(strategy)
    for name, source in jobs.file_sources(folder).items():
        results[f"rows of {name}"] = jobs.rows_seen(strategy, source)
        results[f"loss on {name}"] = train_on_images(strategy, source)
    np.savez(folder / f"worker-{cluster.rank}.npz", **results)


def train_jobs(strategy):
    results = {}
    for global_batch in (20, 34):
        model, history = jobs.train(strategy, jobs.small_source(global_batch))
        results[f"fit {global_batch}"] = jobs.weights_of(model)
        results[f"loss {global_batch}"] = history["loss"]
    x, y = jobs.make_rows()
    results["evaluate"] = tfdist.evaluate(model, x[:31], y[:31], batch_size=10, verbose=0)
    results["predict"] = tfdist.predict(model, x[:31], batch_size=10, verbose=0)
    own = list(tfdist.predict(model, x[:31], batch_size=10, verbose=0, own_rows=True))
    with jobs.lines_of_tfdist(logging.WARNING) as said:
        jobs.train(strategy, jobs.tf_data(seed=1), epochs=1)
        results["said of the same data"] = len(said)
        jobs.train(strategy, jobs.tf_data(seed=strategy.cluster_resolver.task_id), epochs=1)
        results["said of other data"] = len(said)
    results["own places"], results["own outputs"] = (np.concatenate(parts) for parts in zip(*own, strict=True))
    model, history = jobs.train(strategy, jobs.uneven_shards())
    results["uneven shards"], results["loss on uneven shards"] = jobs.weights_of(model), history["loss"]
    model, _ = jobs.train(strategy, jobs.overflowing_source(), make_model=jobs.make_loss_scaling_mlp)
    results["overflow"] = jobs.weights_of(model)
    source = jobs.small_source(34)
    for exchange, compression in itertools.product(("factors", "all_reduce"), ("bfloat16", "float16")):
        wish = {"exchange": exchange, "compression": compression}
        results[f"{compression} {exchange}"] = jobs.weights_of(jobs.train(strategy, source, **wish)[0])
    # Batches of 34, 34, 34 and 1 rows in one call, on two workers: one has none of the last.
    model, _ = jobs.train(strategy, source, exchange="factors", steps_per_execution=3)
    results["factors of uneven batches in one call"] = jobs.weights_of(model)
    for name, tokens in jobs.token_sources().items():
        model, _ = jobs.train(strategy, tokens, make_model=jobs.make_embedding_mlp, steps_per_execution=3)
        results[f"lookups of {name}"] = jobs.weights_of(model)
    model, _ = jobs.train(strategy, source, make_model=jobs.make_batchnorm_mlp)
    results["batchnorm"] = jobs.weights_of(model)
    model, results["loss by hand"] = jobs.train_by_hand(strategy, source)
    results["by hand"] = jobs.weights_of(model)
    model, _ = jobs.train_by_hand(strategy, source, mean=jobs.mean_of_replica)
    results["planted"] = jobs.weights_of(model)
    return results


def exchange_jobs(strategy, folder):
    """Trains with the exchange that is faster here, and once more with what the first run has found."""
    results = {}
    for again in ("measured", "kept"):
        with jobs.lines_of_tfdist() as said:
            model, _ = jobs.train(strategy, jobs.wide_source(), make_model=jobs.make_wide_mlp, run_dir=folder / again)
        results[f"exchange {again}"] = jobs.weights_of(model)
        results[f"exchange {again}, said"] = [line for line in said if line.startswith("exchange=auto")]
        if again == "measured" and strategy.cluster_resolver.task_id == 0:
            (folder / "kept").mkdir()
            shutil.copy(folder / again / "exchange.json", folder / "kept")
    return results


def half_precision_jobs(strategy):
    results = {}
    for policy in ("mixed_float16", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        model, history = jobs.train(strategy, jobs.small_source(20), epochs=4)
        results[policy], results[f"loss in {policy}"] = jobs.weights_of(model), history["loss"]
    keras.config.set_dtype_policy("float32")
    return results


def callback_jobs(strategy, folder):
    results = {}
    model, history = jobs.train_with_callbacks(strategy, jobs.keras_callbacks(folder / "callbacks"))
    results["with callbacks"], results["val_loss with callbacks"] = jobs.weights_of(model), history["val_loss"]

    # This one is unknown to tfdist: it runs on the chief alone, and its decision is everybody's.
    def decide(epoch, logs):
        ran.append(epoch)
        model.optimizer.learning_rate = 0.01
        model.stop_training = epoch == 2

    ran = []
    with strategy.scope():
        model = jobs.make_mlp()
    lambdas = keras.callbacks.LambdaCallback(on_epoch_end=decide)
    history = tfdist.fit(model, jobs.small_source(20), epochs=9, callbacks=[lambdas], verbose=0).history
    results["chief decides"] = [len(ran), len(history["loss"]), float(model.optimizer.learning_rate.numpy())]
    results["weights as the chief decided"] = jobs.weights_of(model)

    model, _ = jobs.train_with_callbacks(strategy, [jobs.Interrupting(), *jobs.backup(folder)])
    model, history = jobs.train_with_callbacks(strategy, jobs.backup(folder))
    results["backup and restore"] = jobs.weights_of(model)
    results["epochs after restoring"] = len(history["loss"])
    return results


def call_length_jobs(strategy):
    """Measures with clocks that disagree: by the chief's, calls may grow; by the other's, each takes a minute."""
    readings = itertools.count(step=60 * strategy.cluster_resolver.task_id)
    clock = functools.partial(call_length.MeasuredLength, clock=lambda: next(readings))
    results = {}
    with strategy.scope():
        model = jobs.make_mlp()
    # This one is unknown to tfdist, and runs on the chief alone.
    by_batch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)
    for name, callbacks in (("auto", []), ("auto by batch", [by_batch])):
        steps = jobs.StepsSeen()
        with unittest.mock.patch.object(call_length, "MeasuredLength", clock):
            tfdist.fit(
                model,
                jobs.small_source(20),
                epochs=2,
                steps_per_execution="auto",
                callbacks=[*callbacks, steps],
                validation_data=jobs.make_rows(),
                verbose=0,
            )
        results[f"calls: {name}"], results[f"weights: {name}"] = steps.seen, jobs.weights_of(model)
    return results


def train_on_images(strategy, source):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = tfdist.models.build("cnn", classes=3, input_shape=(6, 8, 3), filters=(4,), dense=8)
        model.compile("adam", loss="sparse_categorical_crossentropy")
    return tfdist.fit(model, source, epochs=2, verbose=0).history["loss"]


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
