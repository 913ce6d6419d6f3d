"""Runs the batch scripts of `tfdist.jobs` under a real Slurm, and writes the table of it.

Usage: python tests/full/slurm.py [--missing] [part of a row's name ...], as in `evidence.measure`; exit code 1 where a
row is not as it should be, 2 without Debian's packages slurmctld, slurmd and slurm-client.
"""

import dataclasses
import functools
import json
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path[:0] = [str(pathlib.Path(__file__).parents[1]), str(pathlib.Path(__file__).parents[2])]

from full import evidence  # noqa: E402
from support.processes import REPOSITORY, run_python  # noqa: E402
from support.slurm_server import SlurmServer, missing_programs  # noqa: E402

from tfdist.jobs import JobConfig, job_text  # noqa: E402
from tfdist.process import faults  # noqa: E402

COLUMNS = ("row", "as it should be", "state", "restarts", "exit code", "seconds", "what was compared")
# Choices that a measurement would make are given, so that two runs are equal bit for bit.
FLAGS = (
    *("--model=mlp", "--optimizer=sgd", "--learning_rate=0.1", "--global_batch=50", "--steps=24"),
    *("--checkpoint_every_steps=4", "--steps_per_execution=1", "--exchange=all_reduce", "--jit_compile=false"),
    "--start_seconds=240",
)
# After the first checkpoint, so that there is time for what a row does.
PAUSE = "slow:worker=0,step=6,seconds=15"
DEADLINE_SECONDS = 600
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")


@dataclasses.dataclass(frozen=True)
class Row:
    """One job.

    Attributes:
        name: what happens to it.
        act: a function (server, number of the job) that makes it happen, once the job has a checkpoint.
        state, restarts, code: what Slurm has to say of the job at its end.
        more: further flags of the run.
    """

    name: str
    act: Callable[[SlurmServer, str], object] = lambda server, number: None
    state: str = "COMPLETED"
    restarts: str = "0"
    code: str = "0:0"
    more: tuple[str, ...] = ()

    def __str__(self):
        """Returns the row's name."""
        return self.name


def preempt(server, number):
    """Submits a job of the partition whose jobs come first."""
    server.submit("#!/bin/bash\nsleep 1\n", "--partition=high", "--ntasks=2", "--output=/dev/null")


def requeue(server, number):
    """Queues the job again, as an administrator does."""
    server.ask("scontrol", "requeue", number)


def cancel(server, number):
    """Ends the job, as its user does."""
    server.ask("scancel", number)


ROWS = (
    Row("undisturbed"),
    Row("preempted", preempt, restarts="1"),
    Row("requeued by an administrator", requeue, restarts="1"),
    Row("cancelled", cancel, state="CANCELLED", code="0:15"),
    Row("a mistake", state="FAILED", code="2:0", more=("--epochs=1",)),
)


def run(row, server, folder, expected):
    """Runs a row; returns its cells."""
    began, run_dir = time.monotonic(), folder / row.name.replace(" ", "-")
    config = JobConfig(
        target="slurm",
        process_count_per_node=2,
        queue="low",
        python=sys.executable,
        source_directory=str(folder),
        grace_seconds=60,
        run_dir=str(run_dir),
        command=("-m", "tfdist.train", "--strategy=multi_worker", *FLAGS, *row.more),
    )
    environ = {faults.FAULTS: PAUSE, "PYTHONPATH": str(REPOSITORY)}
    number = server.submit(job_text(config), environ=environ)
    # A checkpoint has its name once it is whole.
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not list(run_dir.glob("checkpoints/step-*")) and server.job(number)["JobState"] not in ENDED:
        if time.monotonic() > deadline:
            break
        time.sleep(0.5)
    row.act(server, number)
    job = server.wait_for_state(number, *ENDED, deadline_seconds=DEADLINE_SECONDS)
    found = (job["JobState"], job["Restarts"], job["ExitCode"])
    digest = digest_of(run_dir)
    right = found == (row.state, row.restarts, row.code)
    compared = "no summary, as it should be" if digest is None else "other weights"
    if row.state == "COMPLETED":
        right, compared = right and digest == expected(), "equal weights" if digest == expected() else compared
    if not right:
        print((folder / f"tfdist-{number}.out").read_text(), file=sys.stderr)
    return [row.name, "yes" if right else "NO", *found, f"{time.monotonic() - began:.0f}", compared]


def digest_of(run_dir):
    """Returns `weights_sha256` of a run; None for a run that has not ended."""
    path = run_dir / "summary.json"
    return json.loads(path.read_text())["weights_sha256"] if path.exists() else None


def main(arguments):
    """Runs the rows; returns the exit code."""
    if missing := missing_programs():
        print(f"Slurm: {', '.join(missing)} is missing. Install slurmctld, slurmd and slurm-client.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)

        @functools.cache
        def expected():
            command = ("-m", "tfdist.launch", "--workers=2", "--", "-m", "tfdist.train", *FLAGS, "--run_dir=launched")
            ended = run_python(*command, folder=folder, deadline_seconds=DEADLINE_SECONDS)
            if ended.code:
                raise RuntimeError(ended.err)
            return digest_of(folder / "launched")

        with SlurmServer(folder / "slurm") as server:
            page = {
                "name": "slurm",
                "title": "Jobs of two workers under a real Slurm, beside two workers of the launcher",
            }
            command = "python tests/full/slurm.py"
            return evidence.measure(
                ROWS,
                lambda row: run(row, server, folder, expected),
                arguments,
                **page,
                command=command,
                columns=COLUMNS,
            )


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
