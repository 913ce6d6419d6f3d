"""Plants faults into tfdist, trains rows of the table of equivalence, and writes which fault broke which row.

Usage: python tests/full/planted_faults.py [--missing] [part of a row's name ...], as in `evidence.measure`; exit
code 1 where a row is not as it should be.
"""

import functools
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path[:0] = [str(pathlib.Path(__file__).parents[1]), str(pathlib.Path(__file__).parents[2])]

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from equivalence import table  # noqa: E402
from equivalence.plants import PLANTS, departure  # noqa: E402
from equivalence.runner import CASES  # noqa: E402
from full import evidence  # noqa: E402

from tfdist.strategy import hardware  # noqa: E402

COMMAND = "python tests/full/planted_faults.py"
COLUMNS = ("row", "planted", "difference", "times the tolerance", "as it should be", "not broken by")
TITLE = """Faults planted into tfdist

With a piece of tfdist taken out, the weights or the history of each row of the table of equivalence that has the user's
own code are at least {times} times the tolerance away from those of plain Keras on one device, or the training ends
with an error, which is named. The rows are in float64, on as many replicas as in the table. The difference is that of
the weights (tolerance 1e-9), or that of the history (1e-5) where that one has more of its tolerance. Faults are tried
from what keeps few rows equal to what keeps many, and the first that breaks a row is shown. After an error the row was
trained again without the fault, and was equal. One row is left out, because a replica without rows works on a copy of
another's row, so that all replicas compute the same there: {left_out}."""
TIMES = 10
FAMILIES = ("own loss", "own step", "coupled", "metric", "layer state")
LEFT_OUT = "layer state: a codebook, batches of one row"
# Of the other families.
MORE = ("layer: add_loss", "+ add_loss", "activity_regularizer +", "+ activity_regularizer", "ActivityRegularization +")
ROWS = [
    name
    for name, case in CASES.items()
    if (case.family in FAMILIES and name != LEFT_OUT)
    or (case.family == "layer" and any(word in name for word in MORE))
    or name == "model: train step set on the model"
]


@functools.cache
def strategy_of(replicas):
    """Returns a strategy over logical CPU devices."""
    reduction = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(hardware.logical_cpus(4)[:replicas], cross_device_ops=reduction)


def run(name):
    """Trains a row with one plant after the other, until one breaks it; returns its cells."""
    held, strategy = [], strategy_of(CASES[name].replicas)
    for plant in PLANTS:
        if not plant.fits(name):
            continue
        with plant.planted():
            difference, times = departure(name, strategy)
        if times >= TIMES:
            # An error may leave something behind, which is not to be taken for the next fault.
            after = departure(name, strategy)[1] if np.isinf(times) else 0.0
            right = "yes" if after < 1 else f"NO: {after:.0e} times the tolerance without it"
            return [name, plant.name, difference, f"{times:.0e}", right, "; ".join(held)]
        held.append(plant.name)
    return [name, "", "", "", "NO", "; ".join(held)]


def main(arguments):
    """Runs the rows; returns the exit code."""
    table.quiet()
    page = {
        "name": "planted_faults",
        "title": TITLE.format(times=TIMES, left_out=LEFT_OUT),
        "command": COMMAND,
        "columns": COLUMNS,
    }
    return evidence.measure(ROWS, run, arguments, **page)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
