"""Writes EQUIVALENCE.md: each row of the table under tfdist and under stock Keras, on the same replicas.

Usage: python tests/equivalence/table.py
"""

import collections
import json
import os
import pathlib
import subprocess
import sys
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path[:0] = [str(pathlib.Path(__file__).parents[1]), str(pathlib.Path(__file__).parents[2])]

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from equivalence.runner import CASES, run_plain, run_stock, run_tfdist  # noqa: E402

from tfdist.strategy import hardware  # noqa: E402

TARGET = pathlib.Path(__file__).parents[2] / "EQUIVALENCE.md"
HEAD = """# N replicas against one device, row by row

How far the weights are from those of plain Keras on one device, on the same batches, after two epochs: with tfdist, and
with stock Keras' own `fit` in the same `MirroredStrategy` over logical CPU devices. Written by `make equivalence` with
TensorFlow {tensorflow} and Keras {keras}; `tests/equivalence` holds tfdist to it. A name is that of the exception that
ended the training. Rows are in float64 where they do not say float32. Batches have 8 rows and the last one 5, where a
row does not say otherwise: that alone is more than stock Keras can take on three replicas, and makes it differ on two
and four.
"""


def measure(arguments):
    """Prints the outcomes of rows in one column, one JSON line each."""
    warnings.simplefilter("ignore")
    tf.get_logger().setLevel("ERROR")
    cpus = hardware.logical_cpus(4)
    reduction = tf.distribute.ReductionToOneDevice
    strategies = {n: tf.distribute.MirroredStrategy(cpus[:n], cross_device_ops=reduction()) for n in (2, 3, 4)}
    column, *names = arguments
    run = {"tfdist": run_tfdist, "stock": run_stock}[column]
    for name in names:
        print(json.dumps([name, outcome(run, name, strategies[CASES[name].replicas])]), flush=True)


def main():
    """Measures both columns, each in a process of its own: some rows of stock Keras abort it."""
    results = {name: [] for name in CASES}
    for column in ("tfdist", "stock"):
        left = list(CASES)
        while left:
            command = [sys.executable, __file__, column, *left]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            for line in process.stdout:
                name, result = json.loads(line)
                results[name].append(result)
                left.remove(name)
                print(f"{column}, {name}: {result}", flush=True)
            if process.wait() and left:
                results[left.pop(0)].append("abort of the process")
    TARGET.write_text(render(results))


def outcome(run, name, strategy):
    """Returns the distance, or the exception that ended the training."""
    try:
        _, weights, _ = run(name, strategy)
    except Exception as error:
        return type(error).__name__
    return float(np.nan_to_num(np.abs(weights - run_plain(name)[1]), nan=np.inf).max())


def is_equal(name, result):
    """Returns whether an outcome is within the row's tolerance."""
    return isinstance(result, float) and result < CASES[name].tolerance


def render(results):
    """Returns the page: a summary by family, then every row."""
    families = collections.defaultdict(list)
    for name in results:
        families[CASES[name].family].append(name)
    lines = [HEAD.format(tensorflow=tf.__version__, keras=keras.__version__), "## Summary", ""]
    lines += ["| family | rows | tfdist: equal | stock: equal | stock: differs | stock: crashes |"]
    lines += ["|---|---|---|---|---|---|", *(summary(family, names, results) for family, names in families.items())]
    lines += [summary("**all**", list(results), results), "", "## Rows", ""]
    lines += ["| row | replicas | tfdist | stock Keras |", "|---|---|---|---|"]
    for name, outcomes in results.items():
        shown = " | ".join(f"{item:.0e}" if isinstance(item, float) else item for item in outcomes)
        lines.append(f"| {name} | {CASES[name].replicas} | {shown} |")
    return "\n".join(lines) + "\n"


def summary(family, names, results):
    """Returns a family's line."""
    ours, stock = zip(*(results[name] for name in names), strict=True)
    equal = [sum(map(is_equal, names, column)) for column in (ours, stock)]
    crashes = sum(isinstance(item, str) for item in stock)
    return f"| {family} | {len(names)} | {equal[0]} | {equal[1]} | {len(names) - equal[1] - crashes} | {crashes} |"


if __name__ == "__main__":
    measure(sys.argv[1:]) if len(sys.argv) > 1 else main()
