"""Measures the speed that tfdist promises: `make bench` prints for each goal whether it is met.

Usage: python -m benchmarks.goals [--rounds=N]; exit code 1 if one is not met.
"""

import argparse
import functools
import pathlib
import statistics
import subprocess
import sys

from benchmarks import defaults, exchange, exchange_table, first_fit, restart, start
from benchmarks.goal import Goal
from tfdist.bench import command as bench
from tfdist.bench.config import OURS, STOCK
from tfdist.bench.script import median
from tfdist.bench.table import added_growth, sent_growth, time_ratio
from tfdist.measure.parts import part_of_step
from tfdist.process.exits import INTERRUPTED, MISTAKE
from tfdist.run import rundir

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results"
# Report → the flags of `tfdist.bench`.
BENCHES = {
    "mlp": ("--model=mlp", "--input_shape=64", "--replica_batch=64", "--steps_per_execution=200"),
    "cnn_mirrored": (
        *("--model=cnn", "--dataset=digits", "--replicas=2", "--replica_batch=32"),
        "--versus=keras_fit,plain_loop",
    ),
    "growth": (
        *("--model=mlp", "--input_shape=8", "--replica_batch=16", "--steps_per_execution=200", "--scale=1,2,4"),
        "--versus=plain_loop,plain_multi_worker",
    ),
    "two_workers_cnn": (
        *("--model=cnn", "--dataset=digits", "--scale=2", "--replica_batch=32", "--steps_per_execution=50"),
        "--versus=plain_loop",
    ),
    "two_workers": (
        *("--model=resnet20", "--input_shape=32,32,3", "--scale=2", "--replica_batch=32", "--rows=512"),
        *("--steps_per_execution=8", "--versus=plain_loop"),
    ),
}
# Models for two workers on loopback; `python -m benchmarks.exchange` measures more, also against Horovod.
EXCHANGED = ("dense", "transformer")
# Report → a script of its own, with its flags.
SCRIPTS = {
    "input": ("input",),
    "shuffle": ("shuffle",),
    "start": ("start",),
    "first_fit": ("first_fit",),
    "defaults": ("defaults",),
    "defaults_mirrored": ("defaults", "--replicas=2"),
    "restart": ("restart",),
}


def slower(report, other, least):
    """Makes the goal that another's step takes at least `least` times as long as tfdist's."""
    return Goal(report, f"step of {other} ÷ of tfdist_fit", lambda found: time_against(found, other), least=least)


def lighter(report, other):
    """Makes the goal that tfdist's process holds at most 1.1 × the memory of another's."""
    text = f"peak memory of tfdist_fit ÷ of {other}"
    return Goal(report, text, lambda found: memory_against(found, other), most=1.1)


def constant(workers):
    """Makes the goal that the time tfdist adds to a step does not grow with the workers."""
    text = f"growth of tfdist_fit - plain_loop from 1 to {workers} workers ÷ step of plain_loop"
    return Goal("growth", text, lambda found: growth(found, "plain_loop", workers), most=0.1)


def small(report, part):
    """Makes the goal that a part of tfdist's step, as `parts.attribute` defines it, is at most 5 % of the step."""
    text = f"{part} ÷ whole step of tfdist_fit"
    return Goal(report, text, lambda found: part_of_step(_line(found, "tfdist_fit")["split"], part), most=0.05)


def faster(report, name, figure):
    """Returns stock `fit`'s figure as a multiple of tfdist's."""
    return 1 / slower_than_stock(report, name, figure)


def slower_than_stock(report, name, figure):
    """Returns a figure of tfdist's `fit` as a multiple of stock's; `name` is a function contender → the line's name."""
    return _ratio(report, figure, name(OURS), name(STOCK))


def default_goals():
    """Yields the goals for `fit` as users write it, relative to stock `fit`."""
    least = {defaults.DEFAULT: 3.0, defaults.MANY: 1.0, defaults.BY_BATCH: 1.0}
    for replicas, report in ((1, "defaults"), (2, "defaults_mirrored")):
        for case in defaults.cases(replicas):
            figure = functools.partial(faster, name=case.name, figure=defaults.FIGURE)
            bound = least[case.use] if replicas == 1 else 2.0
            yield Goal(report, f"{', '.join(case)}: step of keras_fit ÷ of tfdist_fit", figure, least=bound)


def first_fit_goals():
    """Yields the goals for the first `fit` of a process, relative to stock `fit`, which two workers do not have."""
    for model in (first_fit.ONE_LAYER, first_fit.ON_TF_DATA, first_fit.RESNET20):
        for place in (first_fit.ONE_DEVICE, first_fit.MIRRORED):
            most = 1.0 if place == first_fit.MIRRORED else 1.1 if model == first_fit.RESNET20 else 1.5
            name = functools.partial(first_fit.name, model, place)
            figure = functools.partial(slower_than_stock, name=name, figure=first_fit.FIRST)
            yield Goal("first_fit", f"{model}, {place}: first fit of tfdist_fit ÷ of keras_fit", figure, most=most)


GOALS = (
    slower("mlp", "plain_loop_xla", 1 / 1.05),
    slower("mlp", "keras_fit", 3.0),
    slower("mlp", "keras_fit_k50", 2.0),
    slower("cnn_mirrored", "keras_fit", 1.5),
    Goal(
        "input",
        "images/s of tfdist ÷ of tf.data by hand",
        lambda found: _ratio(found, "images/s per core", "tfdist", "tf.data by hand"),
        least=0.9,
    ),
    Goal(
        "shuffle",
        "order of an epoch ÷ epoch of digits",
        lambda found: (
            median(found, "digits, shuffled", "ms for its order") / median(found, "digits, shuffled", "ms an epoch")
        ),
        most=0.02,
    ),
    Goal(
        "start",
        "s to the first step - s to import TensorFlow",
        lambda found: (
            median(found, "tfdist.train", "s to the first step") - median(found, "import tensorflow", "s to the end")
        ),
        most=3.0,
    ),
    Goal("start", "s from the last line to the end", lambda found: median(found, start.TRAIN, start.LEAVE), most=0.2),
    *first_fit_goals(),
    *default_goals(),
    # Half of the 13.6 s on this machine before calls were found by their traces and lost workers ended.
    Goal("restart", restart.FIGURE, lambda found: median(found, restart.RESTART, restart.FIGURE), most=6.8),
    # Both compiled by XLA.
    lighter("mlp", "plain_loop_xla"),
    lighter("cnn_mirrored", "plain_loop"),
    *(goal for model in EXCHANGED for goal in exchange_table.goals(model, "loopback", 2)),
    constant(2),
    constant(4),
    Goal(
        "growth",
        "growth of the bytes that a worker sends from 2 to 4 workers ÷ a ring's",
        lambda found: sent(found, "tfdist_fit", 2, 4),
        # Bytes are rounded to whole numbers.
        most=1.001,
    ),
    small("two_workers_cnn", "overhead"),
    small("two_workers", "overhead"),
    small("two_workers", "input"),
)


def main(arguments):
    """Measures and checks; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, help="how often each contender is measured")
    rounds = parser.parse_args(arguments).rounds
    flags = [] if rounds is None else [f"--rounds={rounds}"]
    for name, own in BENCHES.items():
        print(f"\n{name}: python -m tfdist.bench {' '.join(own)}\n", flush=True)
        if code := bench.main([*own, f"--out_dir={RESULTS / name}", *flags]):
            return code
    command = [f"--models={','.join(EXCHANGED)}", *flags]
    print(f"\nexchange: python -m benchmarks.exchange {' '.join(command)}\n", flush=True)
    if (code := exchange.main(command)) in (MISTAKE, INTERRUPTED):
        return code
    for name, (file, *own) in SCRIPTS.items():
        print(f"\n{name}: python {' '.join([f'benchmarks/{file}.py', *own])}\n", flush=True)
        command = [str(HERE / f"{file}.py"), *own, f"--out_dir={RESULTS / name}", *flags]
        if code := subprocess.call([sys.executable, *command]):
            return code
    print()
    return 0 if all([check(goal) for goal in GOALS]) else 1


def check(goal):
    """Prints and returns whether a goal is met."""
    (path,) = (RESULTS / goal.report).glob("*.json")
    value = goal.figure(rundir.read_json(path))
    print(goal.line(value))
    return goal.is_met(value)


def time_against(report, other):
    """Returns another's time per step as a multiple of tfdist's, from medians; 0 if the other failed."""
    theirs, ours = _line(report, other), _line(report, "tfdist_fit")
    if theirs["error"]:
        return 0.0
    return time_ratio(theirs["examples_per_second"]["median"], ours["examples_per_second"]["median"])


def memory_against(report, other):
    """Returns tfdist's peak memory as a multiple of another's."""
    return _line(report, "tfdist_fit")["peak_memory_bytes"] / _line(report, other)["peak_memory_bytes"]


def growth(report, other, workers):
    """Returns `table.added_growth` of tfdist against another, from one worker to `workers`: the rounds' median.

    Within a round all are measured close together, so that a drift of the machine affects them equally.
    """
    lines = [_line(report, name, count) for count in (1, workers) for name in ("tfdist_fit", other)]
    rounds = zip(*(line["samples_seconds_per_step"] for line in lines), strict=True)
    return statistics.median(added_growth(*seconds) for seconds in rounds)


def sent(report, contender, few, many):
    """Returns `table.sent_growth` of a contender, from few workers to many."""
    few_bytes, many_bytes = (_line(report, contender, count)["wire_bytes"] for count in (few, many))
    return sent_growth(few_bytes, few, many_bytes, many)


def _line(report, contender, workers=None):
    """Returns the first line of a contender, on `workers` workers if given."""
    found = (line for line in report["results"] if line["contender"] == contender)
    return next(line for line in found if workers in (None, line["workers"]))


def _ratio(report, figure, ours, other):
    return median(report, ours, figure) / median(report, other, figure)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
