"""Measures the time from a kill of one of two workers to the end of the next call, with the job for fault injection.

Usage: python benchmarks/restart.py [--rounds=N] [--out_dir=FOLDER]
"""

import itertools
import os
import pathlib
import subprocess
import sys
import tempfile

from tfdist.bench import script

JOB = pathlib.Path(__file__).parents[1] / "tests" / "chaos" / "job.py"
RESTART, FIGURE = "two workers", "s from a kill to the next step"
STEPS_OF_EPOCH, SECONDS_A_START = 6, 120


def main(arguments):
    """Measures, prints and writes."""
    out_dir = pathlib.Path(__file__).parent / "results" / "restart"
    given = script.read_flags(arguments, text=__doc__, out_dir=out_dir, default_rounds=10)
    measured = iter(seconds_of_restarts(given.rounds))
    script.run({RESTART: lambda: {FIGURE: next(measured)}}, given, measured={"job": "tests/chaos/job.py"})


def seconds_of_restarts(kills):
    """Runs the job, and kills a worker `kills` times, once per attempt; returns the seconds of each restart.

    A worker is killed before a step, right after the previous call; the time counts from the end of that call.
    """
    with tempfile.TemporaryDirectory() as folder:
        faults = ";".join(f"kill:worker=1,step={STEPS_OF_EPOCH * kill + 2},attempt={kill}" for kill in range(kills))
        launcher = ("-m", "tfdist.launch", "--workers=2", f"--max_restarts={kills}", "--backoff_seconds=0", "--quiet")
        job = (str(JOB), f"--run_dir={folder}/run", f"--epochs={kills + 1}", f"--times={folder}")
        subprocess.run(
            [sys.executable, *launcher, f"--chaos={faults}", "--", *job],
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"},
            timeout=SECONDS_A_START * (kills + 1),
            # The launcher would report each kill with the worker's last lines.
            stderr=subprocess.DEVNULL,
            check=True,
        )
        attempts = [read_times(pathlib.Path(folder, f"attempt-{attempt}")) for attempt in range(kills + 1)]
    return [after[0] - before[-1] for before, after in itertools.pairwise(attempts)]


def read_times(path):
    """Returns the times that all workers have written, in order."""
    return sorted(map(float, path.read_text().split()))


if __name__ == "__main__":
    main(sys.argv[1:])
