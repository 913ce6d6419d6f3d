"""Measures CPU-seconds of the first and the second `fit` of a process, tfdist's and stock, in separate processes.

The models are one layer on arrays and on `tf.data`, and ResNet-20 on arrays, each on one device, on two replicas of
`MirroredStrategy`, and on two workers, where stock `fit` fails. Stock Keras compiles without XLA, which is its default
without a GPU.

Usage: python benchmarks/first_fit.py [--rounds=N] [--out_dir=FOLDER]
"""

import contextlib
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from tfdist.bench import script
from tfdist.bench.config import OURS, STOCK

ONE_LAYER, ON_TF_DATA, RESNET20 = "one layer", "one layer on tf.data", "resnet20"
PLACES = ONE_DEVICE, MIRRORED, TWO_WORKERS = "one device", "two replicas", "two workers"
FIRST, SECOND = "CPU-seconds of the first fit", "CPU-seconds of the second fit"
MEASURE = "--measure"
TIMEOUT_SECONDS = 300


def cases():
    """Yields what is measured: (the model, the place, the contender)."""
    for model in (ONE_LAYER, ON_TF_DATA, RESNET20):
        for place in PLACES:
            # Keras: "MultiWorkerMirroredStrategy is not supported".
            yield from ((model, place, one) for one in (STOCK, OURS) if (place, one) != (TWO_WORKERS, STOCK))


def name(*case):
    """Returns the name of a case's line."""
    return ", ".join(case)


def main(arguments):
    """Measures, prints and writes."""
    if arguments[:1] == [MEASURE]:
        measure(*arguments[1:])
        return
    out_dir = pathlib.Path(__file__).parent / "results" / "first_fit"
    given = script.read_flags(arguments, text=__doc__, out_dir=out_dir, default_rounds=5)
    measures = {name(*case): functools.partial(start, *case) for case in cases()}
    script.run(measures, given, measured={"batch": 32, "steps": 4, "dtype": "float32"})


def start(model, place, contender):
    """Measures a case in a process of its own, or in two workers; returns the figures of the first worker."""
    with tempfile.TemporaryDirectory() as folder:
        own = [__file__, MEASURE, model, place, contender, f"{folder}/measured.json"]
        launcher = ["-m", "tfdist.launch", "--workers=2", f"--log_dir={folder}", "--quiet", "--"]
        ended = subprocess.run(
            [sys.executable, *(launcher if place == TWO_WORKERS else []), *own],
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"},
            timeout=TIMEOUT_SECONDS,
            check=False,
            capture_output=True,
            text=True,
        )
        if ended.returncode:
            raise RuntimeError(f"{name(model, place, contender)}:\n{ended.stderr}")
        return json.loads(pathlib.Path(folder, "measured.json").read_text())


def measure(model, place, contender, path):
    """Runs `fit` twice; writes the CPU-seconds of each."""
    import keras
    import numpy as np
    import tensorflow as tf

    import tfdist
    from tfdist.strategy.workers import Workers

    fit = tfdist.fit if contender == OURS else keras.Model.fit
    rng = np.random.default_rng(0)
    classes, shape = (10, (32, 32, 3)) if model == RESNET20 else (2, (8,))
    x, y = rng.normal(size=(128, *shape)).astype("float32"), rng.integers(0, classes, 128)
    with strategy_of(place).scope() if place != ONE_DEVICE else contextlib.nullcontext():
        if model == RESNET20:
            network = tfdist.models.resnet20(classes=classes, input_shape=shape)
        else:
            network = keras.Sequential([keras.Input(shape), keras.layers.Dense(classes, activation="softmax")])
        network.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    given = {"x": x, "y": y, "batch_size": 32}
    if model == ON_TF_DATA:
        given = {"x": tf.data.Dataset.from_tensor_slices((x, y)).batch(32)}
    seconds = []
    for _ in range(2):
        begin = time.process_time()
        fit(network, **given, verbose=0)
        seconds.append(time.process_time() - begin)
    if place != TWO_WORKERS or Workers.of(network.distribute_strategy).is_chief:
        pathlib.Path(path).write_text(json.dumps(dict(zip((FIRST, SECOND), seconds, strict=True))))


def strategy_of(place):
    """Makes the strategy of two replicas in this process, or of two workers."""
    import tensorflow as tf

    import tfdist
    from tfdist.strategy import hardware

    if place == TWO_WORKERS:
        return tfdist.choose_strategy()
    return tf.distribute.MirroredStrategy(hardware.logical_cpus(2))


if __name__ == "__main__":
    main(sys.argv[1:])
