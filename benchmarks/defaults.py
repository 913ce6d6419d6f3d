"""Measures stock `fit` and `tfdist.fit` as users write them: default arguments, `tf.data` or arrays, a batch callback.

The models are the MLP and the digits CNN, with batch 64 and SGD; stock Keras compiles them as it does by default. The
second of two epochs is timed. For each model there is also a lower bound for any `fit` with these kernels: a loop over
one kept batch, which reads nothing and counts nothing.

Usage: python benchmarks/defaults.py [--replicas=N] [--rounds=N] [--out_dir=FOLDER]
"""

import functools
import os
import pathlib
import sys
import time
from typing import NamedTuple

from tfdist.bench import script
from tfdist.bench.config import OURS, STOCK

MODELS = ("mlp", "cnn")
TF_DATA, ARRAYS = "tf.data", "arrays"
DEFAULT, MANY, BY_BATCH = "default arguments", "50 steps a call", "a callback by batch"
FIGURE = "µs a step"
BATCH, STEPS = 64, 500


class Case(NamedTuple):
    """A case that is measured with both kinds of `fit`.

    Attributes:
        model: one of MODELS.
        rows: TF_DATA or ARRAYS.
        use: DEFAULT, MANY or BY_BATCH.
    """

    model: str
    rows: str
    use: str

    def name(self, contender):
        """Returns the name of its line."""
        return f"{', '.join(self)}: {contender}"


def cases(replicas):
    """Lists the `Case`s that are measured on one device, or on several replicas of one process."""
    uses = (DEFAULT, MANY, BY_BATCH) if replicas == 1 else (DEFAULT,)
    return [Case(model, rows, use) for model in MODELS for rows in (TF_DATA, ARRAYS) for use in uses]


def main(arguments):
    """Measures, prints and writes."""
    more = [("--replicas", {"type": int, "default": 1, "help": "logical CPU devices, under MirroredStrategy"})]
    given = script.read_flags(arguments, text=__doc__, out_dir=None, default_rounds=7, more=more)
    given.out_dir = given.out_dir or pathlib.Path("runs") / ("defaults" if given.replicas == 1 else "defaults_mirrored")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    strategy = make_strategy(given.replicas)
    measures = {
        case.name(contender): trainer(case, contender, strategy)
        for case in cases(given.replicas)
        for contender in (STOCK, OURS)
    }
    if given.replicas == 1:
        measures |= {f"{model}: a loop over one kept batch": kept_batch_loop(model) for model in MODELS}
    for measure in measures.values():
        # The first measurement traces.
        measure()
    script.run(measures, given, measured={"batch": BATCH, "steps": STEPS, "replicas": given.replicas})


def make_strategy(replicas):
    """Returns TensorFlow's default strategy, or `MirroredStrategy` on `replicas` logical devices of the CPU."""
    import tensorflow as tf

    from tfdist.strategy import hardware

    if replicas == 1:
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy(hardware.logical_cpus(replicas))


def trainer(case, contender, strategy):
    """Returns a function that trains for two epochs, and returns the time per step of the second."""
    import keras
    import tensorflow as tf

    import tfdist
    from tfdist.bench.contenders import SecondEpoch

    class ByBatch(keras.callbacks.Callback):
        """Looks at each batch, and does nothing with it."""

        def on_train_batch_end(self, batch, logs=None):
            """Does nothing."""

    fit = tfdist.fit if contender == OURS else keras.Model.fit
    x, y = rows_of(case.model)
    with strategy.scope():
        keras.utils.set_random_seed(1)
        model = build(case.model)
        model.compile("sgd", "sparse_categorical_crossentropy", steps_per_execution=50 if case.use == MANY else 1)
    if case.rows == ARRAYS:
        given = {"x": x, "y": y, "batch_size": BATCH}
    else:
        given = {"x": tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH).prefetch(tf.data.AUTOTUNE)}
    callbacks = [ByBatch()] if case.use == BY_BATCH else []
    train = functools.partial(fit, model, epochs=2, verbose=0, **given)

    def measure():
        clock = SecondEpoch()
        train(callbacks=[clock, *callbacks])
        return {FIGURE: 1e6 * clock.seconds / STEPS}

    return measure


def kept_batch_loop(name):
    """Returns a function that trains on the same batch again and again, in one `tf.function`."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    model, optimizer, loss = build(name), keras.optimizers.SGD(), keras.losses.SparseCategoricalCrossentropy()
    optimizer.build(model.trainable_variables)
    x, y = (tf.constant(part[:BATCH]) for part in rows_of(name))

    @tf.function
    def train():
        for _ in tf.range(STEPS):
            with tf.GradientTape() as tape:
                value = loss(y, model(x, training=True))
            optimizer.apply(tape.gradient(value, model.trainable_variables), model.trainable_variables)
        return tf.identity(optimizer.iterations.value)

    def measure():
        begin = time.perf_counter()
        # A call has ended only when its result can be read.
        int(train())
        return {FIGURE: 1e6 * (time.perf_counter() - begin) / STEPS}

    return measure


@functools.cache
def rows_of(model):
    """Returns (x, y) of `STEPS` steps; for the CNN the digits, repeated as often as necessary."""
    import numpy as np

    from tfdist import data

    if model == "mlp":
        rng = np.random.default_rng(0)
        return rng.normal(size=(STEPS * BATCH, 64)).astype("float32"), rng.integers(0, 10, STEPS * BATCH)
    parts = zip(*data.load("digits", split="train", global_batch=BATCH, shuffle=False).dataset(), strict=True)
    x, y = (np.concatenate([part.numpy() for part in each]) for each in parts)
    items = np.arange(STEPS * BATCH) % len(x)
    return x[items], y[items]


def build(name):
    """Makes the MLP 64 → 128 → 10, or the digits CNN."""
    from tfdist import models

    return models.build(name, classes=10, input_shape=(64,) if name == "mlp" else (8, 8, 1))


if __name__ == "__main__":
    main(sys.argv[1:])
