"""Measures the cost of the order of rows: an epoch's permutation and the epoch, shuffled and in stored order.

It trains the digits CNN on one device, and also makes a permutation of as many rows as ImageNet has.

Usage: python benchmarks/shuffle.py [--rounds=N] [--out_dir=FOLDER]
"""

import os
import pathlib
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras

from tfdist import data, models
from tfdist.bench import script
from tfdist.data import order
from tfdist.training import fit

SHUFFLED, STORED, IMAGENET = "digits, shuffled", "digits, in stored order", "rows of ImageNet"
EPOCH, PERMUTATION, ROW = "ms an epoch", "ms for its order", "ns a row"
IMAGENET_ROWS = 1_281_167
EPOCHS = 20


class Epochs(keras.callbacks.Callback):
    """Times all epochs but the first."""

    def on_epoch_end(self, epoch, logs=None):
        """Starts the clock at the end of the first epoch; stops it at the end of each."""
        now = time.perf_counter()
        self._begin = now if epoch == 0 else self._begin
        self.seconds = now - self._begin


def main(arguments):
    """Measures, prints and writes."""
    out_dir = pathlib.Path(__file__).parent / "results" / "shuffle"
    given = script.read_flags(arguments, text=__doc__, out_dir=out_dir, default_rounds=9)
    measures = {SHUFFLED: trainer(shuffle=True), STORED: trainer(shuffle=False), IMAGENET: imagenet_order}
    for measure in measures.values():
        # The first measurement traces.
        measure()
    script.run(measures, given, measured={"model": "cnn", "dataset": "digits", "epochs": EPOCHS})


def trainer(shuffle):
    """Returns a function that trains the digits CNN and returns the times of an epoch and of its order alone."""
    source = data.load("digits", split="train", global_batch=64, seed=0, shuffle=shuffle)
    model = models.build("cnn", classes=10, input_shape=(8, 8, 1))
    model.compile("adam", "sparse_categorical_crossentropy", steps_per_execution=source.cardinality)

    def measure():
        clock = Epochs()
        fit(model, source, epochs=EPOCHS + 1, verbose=0, callbacks=[clock])
        alone = permutation_seconds(source.rows, shuffle, times=100)
        return {EPOCH: 1e3 * clock.seconds / EPOCHS, PERMUTATION: 1e3 * alone}

    return measure


def imagenet_order():
    """Returns how long the order of an epoch of ImageNet takes."""
    seconds = permutation_seconds(IMAGENET_ROWS, shuffle=True, times=1)
    return {PERMUTATION: 1e3 * seconds, ROW: 1e9 * seconds / IMAGENET_ROWS}


def permutation_seconds(rows, shuffle, times):
    """Returns the mean seconds of a permutation over `times` of them."""
    begin = time.perf_counter()
    for epoch in range(times):
        order.permutation(0, epoch, rows, shuffle=shuffle)
    return (time.perf_counter() - begin) / times


if __name__ == "__main__":
    main(sys.argv[1:])
