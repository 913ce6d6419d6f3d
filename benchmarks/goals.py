"""What tfdist promises to be as fast as, measured: `make bench` says for each goal whether it is met.

Usage: python benchmarks/goals.py [--rounds=N and other flags of tfdist.bench]; exit code 1 where one is not met.
"""

import pathlib
import sys

from tfdist import bench, rundir
from tfdist.benchmark.table import time_ratio

RESULTS = pathlib.Path(__file__).parent / "results"
# Report → the flags of the measurement.
MEASUREMENTS = {
    "mlp": ("--model=mlp", "--input_shape=64", "--replica_batch=64", "--steps_per_execution=200"),
    "cnn_mirrored": (
        *("--model=cnn", "--dataset=digits", "--replicas=2", "--replica_batch=32"),
        "--versus=keras_fit,plain_loop",
    ),
}
# (report, other contender, least time of its step as a multiple of tfdist's).
GOALS = (
    ("mlp", "plain_loop_xla", 1 / 1.05),
    ("mlp", "keras_fit", 3.0),
    ("mlp", "keras_fit_k50", 2.0),
    ("cnn_mirrored", "keras_fit", 1.5),
)


def main(flags):
    """Measures and checks; gives the exit code."""
    for name, own in MEASUREMENTS.items():
        folder = RESULTS / name
        print(f"\n{name}: python -m tfdist.bench {' '.join(own)}\n", flush=True)
        if code := bench.main([*own, f"--out_dir={folder}", *flags]):
            return code
    met = [check(*goal) for goal in GOALS]
    return 0 if all(met) else 1


def check(name, other, least):
    """Prints whether a goal is met; gives it."""
    ratio = measured_ratio(rundir.read_json(RESULTS / name / "bench.json"), other)
    met = ratio >= least
    print(
        f"{'met    ' if met else 'NOT MET'}  {name}: {other} takes {ratio:.2f} × tfdist_fit's time (goal {least:.2f})"
    )
    return met


def measured_ratio(report, other):
    """Gives how many times as long as tfdist's another's step takes, as a ratio of medians; 0 where it failed."""
    rates = {result["contender"]: result.get("examples_per_second") for result in report["results"]}
    return time_ratio(rates[other]["median"], rates["tfdist_fit"]["median"]) if rates[other] else 0.0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
