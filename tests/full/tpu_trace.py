"""Traces every row of the table of equivalence and some models of `tfdist.models` for a TPU.

Usage: python tests/full/tpu_trace.py [part of a row's name ...]; exit code 1 where a row is not as it should be. With
parts of names only those rows are traced, and nothing is written.
"""

import dataclasses
import functools
import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path[:0] = [str(pathlib.Path(__file__).parents[1]), str(pathlib.Path(__file__).parents[2])]

import keras  # noqa: E402
import numpy as np  # noqa: E402
from equivalence import runner  # noqa: E402
from full import evidence  # noqa: E402
from support import tpu  # noqa: E402

import tfdist  # noqa: E402
from tfdist.process.errors import UsageError  # noqa: E402
from tfdist.strategy import hardware  # noqa: E402

COMMAND = "python tests/full/tpu_trace.py"
COLUMNS = ("row", "programs a step", "programs beside", "operations", "seconds", "as it should be", "what is said")
CORES = (1, 2, 8)
# Small images, but large enough for the models' strides. tests/full/models.py has the other kinds.
SHAPES = {"mlp": (8, 8, 1), "cnn": (16, 16, 3), "resnet20": (32, 32, 3), "resnet50": (32, 32, 3)}


@dataclasses.dataclass(frozen=True)
class Row:
    """One training, evaluation or prediction.

    Attributes:
        name: what it is.
        cores: their number.
        call: a function of the strategy.
    """

    name: str
    cores: int
    call: Callable[[Any], Any]

    def __str__(self):
        """Returns the row's name in the table."""
        return f"{self.name}, {self.cores} core{'s' * (self.cores > 1)}"

    def run(self):
        """Traces it; returns its cells."""
        began = time.monotonic()
        strategy = tpu.make_tpu(hardware.logical_cpus(max(CORES))[: self.cores])
        try:
            found = tpu.trace(lambda: self.call(strategy))
        except UsageError as error:
            seconds = f"{time.monotonic() - began:.1f}"
            return [str(self), "-", "-", "-", seconds, "yes", f"refused: {str(error)[:120]}"]
        wrong = found.cannot_run()
        right = not wrong and sum(found.counts) > 0 and found.counts[0] <= 1
        seconds = f"{time.monotonic() - began:.1f}"
        said = "; ".join(wrong) or "sums of " + (", ".join(sorted(set(found.sums()))) or "nothing")
        return [str(self), *found.counts, len(found.nodes), seconds, "yes" if right else "NO", said]


def rows():
    """Lists every row of the table."""
    for name in runner.CASES:
        yield Row(name, 2, functools.partial(runner.run_tfdist, name))
    for cores in CORES:
        for name in SHAPES:
            for method in ("fit", "evaluate", "predict"):
                yield Row(f"tfdist.models: {name}, {method}", cores, functools.partial(_model, name, method))


def _model(name, method, strategy):
    shape = SHAPES[name]
    x, y = np.zeros((13, *shape), "float32"), np.arange(13) % 10
    with strategy.scope():
        model = tfdist.models.build(name, classes=10, input_shape=shape)
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"])
    data = (x,) if method == "predict" else (x, y)
    getattr(tfdist, method)(model, *data, batch_size=8, verbose=0)


def main(parts):
    """Traces the rows; returns the exit code."""
    page = {"name": "tpu_trace", "title": "What a TPU would be given"}
    return evidence.measure(rows(), Row.run, parts, **page, command=COMMAND, columns=COLUMNS)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
