"""Writes EQUIVALENCE.md: each row of the table under tfdist on replicas and on two workers, and under stock Keras.

Usage: python tests/equivalence/table.py [--missing]; with --missing only what the page lacks is measured. The page is
written after each outcome, so a measurement that was interrupted goes on with --missing.
"""

import collections
import contextlib
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path[:0] = [str(pathlib.Path(__file__).parents[1]), str(pathlib.Path(__file__).parents[2])]

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from equivalence.runner import CASES, run_on_workers, run_plain, run_stock, run_tfdist  # noqa: E402
from full import evidence  # noqa: E402
from support.worker_group import WorkerGroup  # noqa: E402

from tfdist.strategy import hardware  # noqa: E402

TARGET = pathlib.Path(__file__).parents[2] / "EQUIVALENCE.md"
# For one row on two workers.
DEADLINE_SECONDS = 180
HEAD = """# N replicas against one device, row by row

How far the weights are from those of plain Keras on one device, on the same batches, after two epochs: with tfdist in a
`MirroredStrategy` over logical CPU devices, with tfdist on two worker processes in a `MultiWorkerMirroredStrategy`, and
with stock Keras' own `fit` in the same `MirroredStrategy`. Written by `make equivalence` with TensorFlow {tensorflow}
and Keras {keras}; `tests/equivalence` holds tfdist to it. A name is that of the exception that ended the training. An
empty cell is not measured yet. Rows are in float64 where they do not say float32. Batches have 8 rows and the last one
5, where a row does not say otherwise: that alone is more than stock Keras can take on three replicas, and makes it
differ on two and four.
"""


def main(missing):
    """Measures the columns, and writes the page after each outcome.

    Args:
        missing: whether to measure only what the page lacks.
    """
    page = evidence.read_rows(TARGET) if missing else {}
    results = {name: {column: page.get(name, {}).get(column, "") for column in COLUMNS} for name in CASES}
    for column, measure in COLUMNS.items():
        for name, result in measure([name for name in CASES if not results[name][column]]):
            results[name][column] = f"{result:.0e}" if isinstance(result, float) else result
            print(f"{column}, {name}: {results[name][column]}", flush=True)
            TARGET.write_text(render(results))


def in_process(column, left):
    """Yields (row, outcome) of rows in another process, and in one more after an abort: some rows of stock Keras do."""
    left = list(left)
    while left:
        command = [sys.executable, __file__, column, *left]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for line in process.stdout:
            name, result = json.loads(line)
            left.remove(name)
            yield name, result
        if process.wait() and left:
            yield left.pop(0), "abort of the process"


def on_workers(left):
    """Yields (row, outcome) of rows on two worker processes, which take one row after the other."""
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.closing(WorkerGroup(pathlib.Path(folder))) as group,
    ):
        for name in left:
            run = functools.partial(group, run_on_workers, name, "auto", deadline_seconds=DEADLINE_SECONDS)
            yield name, outcome(name, lambda run=run: [done.value for done in run()])


# In the order of the page: name → a function of the rows to measure, which yields (row, outcome).
COLUMNS = {
    "tfdist": functools.partial(in_process, "tfdist"),
    "two workers": on_workers,
    "stock Keras": functools.partial(in_process, "stock"),
}


def measure(arguments):
    """Prints the outcomes of rows in one column, one JSON line each."""
    quiet()
    cpus = hardware.logical_cpus(4)
    reduction = tf.distribute.ReductionToOneDevice
    strategies = {n: tf.distribute.MirroredStrategy(cpus[:n], cross_device_ops=reduction()) for n in (2, 3, 4)}
    column, *names = arguments
    run = {"tfdist": run_tfdist, "stock": run_stock}[column]
    for name in names:
        result = outcome(name, lambda name=name: [run(name, strategies[CASES[name].replicas])])
        print(json.dumps([name, result]), flush=True)


def quiet():
    """Hides the warnings of what the rows do on purpose."""
    warnings.simplefilter("ignore")
    tf.get_logger().setLevel("ERROR")


def outcome(name, run):
    """Returns the distance, or the name of the exception that ended the training.

    Args:
        name: the row's name.
        run: a function () → (weights before, weights after, history) for each process that has trained.
    """
    try:
        trained = run()
    except Exception as error:
        print(error, file=sys.stderr)
        return type(error).__name__
    plain = run_plain(name)[1]
    return max(float(np.nan_to_num(np.abs(weights - plain), nan=np.inf).max()) for _, weights, _ in trained)


def distance(cell):
    """Returns the number in a cell; None where it has a name or nothing."""
    try:
        return float(cell)
    except ValueError:
        return None


def is_equal(name, cell):
    """Returns whether an outcome is within the row's tolerance."""
    return distance(cell) is not None and distance(cell) < CASES[name].tolerance


def render(results):
    """Returns the page, a summary by family and then every row; `results` has a dict of cells for each row."""
    families = collections.defaultdict(list)
    for name in results:
        families[CASES[name].family].append(name)
    lines = [HEAD.format(tensorflow=tf.__version__, keras=keras.__version__), "## Summary", ""]
    lines += ["| family | rows | tfdist: equal | two workers: equal | stock: equal | stock: differs | stock: crashes |"]
    lines += ["|---|---|---|---|---|---|---|", *(summary(family, names, results) for family, names in families.items())]
    lines += [summary("**all**", list(results), results), "", "## Rows", ""]
    lines += [f"| row | replicas | {' | '.join(COLUMNS)} |", "|---|---|---|---|---|"]
    lines += [f"| {name} | {CASES[name].replicas} | {' | '.join(results[name].values())} |" for name in results]
    return "\n".join(lines) + "\n"


def summary(family, names, results):
    """Returns a family's line."""
    measured = [[name for name in names if results[name][column]] for column in COLUMNS]
    equal = [
        sum(is_equal(name, results[name][column]) for name in some)
        for column, some in zip(COLUMNS, measured, strict=True)
    ]
    shown = [
        str(count) if len(some) == len(names) else f"{count} of {len(some)}"
        for count, some in zip(equal, measured, strict=True)
    ]
    crashes = sum(distance(results[name]["stock Keras"]) is None for name in measured[-1])
    cells = [family, len(names), *shown, len(measured[-1]) - equal[-1] - crashes, crashes]
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] != "--missing":
        measure(sys.argv[1:])
    else:
        quiet()
        main("--missing" in sys.argv)
