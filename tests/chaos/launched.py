"""Launched runs of job.py: what came of them, and whether anything of them is still there."""

import dataclasses
import functools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading

import numpy as np
from support.processes import REPOSITORY, run_python

JOB = REPOSITORY / "tests" / "chaos" / "job.py"
# Longer than a first call lasts on a busy machine, with its tracing: that one is no hang.
HANG_SECONDS = 12
# Deadlines, on a busy machine.
SECONDS_A_START, SECONDS_AN_EPOCH = 60, 1
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2"}


@dataclasses.dataclass(frozen=True)
class Run:
    """What a launched run has left behind.

    Attributes:
        code: the launcher's exit code.
        said: its stderr.
        folder: the run's folder.
    """

    code: int
    said: str
    folder: pathlib.Path

    @functools.cached_property
    def attempts(self):
        """What launch.json says of each start."""
        return json.loads((self.folder / "logs" / "launch.json").read_text())

    @functools.cached_property
    def summary(self):
        """What job.py wrote at its end."""
        return json.loads((self.folder / "summary.json").read_text())

    @property
    def weights(self):
        """The final weights, in order."""
        with np.load(self.folder / "weights.npz") as values:
            return [values[str(index)] for index in range(len(values.files))]

    def log(self, rank, attempt):
        """Returns what a worker has written during one start."""
        text = (self.folder / "logs" / f"worker-{rank}.log").read_text(errors="replace")
        parts = re.split(rf"^==== worker {rank}, attempt (\d+), .*\n", text, flags=re.MULTILINE)
        return dict(zip(map(int, parts[1::2]), parts[2::2], strict=True)).get(attempt, "")

    def left_alive(self):
        """Lists the processes of the run that still run, of workers and of what has started them."""
        lines = processes_of(self.folder)
        assert len(lines) > 0, self.said
        return [pid for line in lines for pid, start in line["processes"] if runs(pid, start) and pid != os.getpid()]


def launch(folder, *flags, epochs, workers=2, restarts=0, job=()):
    """Runs job.py under the launcher, to its end; returns a `Run`."""
    arguments = command(folder, *flags, epochs=epochs, workers=workers, restarts=restarts, job=job)
    deadline_seconds = SECONDS_A_START * (restarts + 1) + SECONDS_AN_EPOCH * epochs
    ended = run_python(*arguments, environ=QUIET, deadline_seconds=deadline_seconds, folder=folder)
    return Run(ended.code, ended.err, folder)


def command(folder, *flags, epochs, workers=2, restarts=0, job=()):
    """Returns what follows `python` to launch job.py."""
    return (
        *("-m", "tfdist.launch", f"--workers={workers}", f"--max_restarts={restarts}", "--backoff_seconds=0"),
        *("--grace=20", f"--hang_seconds={HANG_SECONDS}", "--tee=none", *flags, "--"),
        *(JOB, f"--run_dir={folder}", f"--epochs={epochs}", *job),
    )


def alone(folder, *, epochs, job=()):
    """Runs job.py in one process, without launcher and strategy of several; returns a `Run`."""
    ended = run_python(JOB, f"--run_dir={folder}", f"--epochs={epochs}", *job, environ=QUIET, folder=folder)
    return Run(ended.code, ended.err, folder)


class Started:
    """A Python command that runs, its output in a file, under a deadline that ends in SIGKILL of its group."""

    def __init__(self, arguments, folder, *, name, deadline_seconds, environ=None):
        clean = {key: value for key, value in os.environ.items() if key != "TF_CONFIG"}
        self._path = folder / f"{name}.txt"
        with self._path.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, *map(str, arguments)],
                env=clean | {"PYTHONPATH": str(REPOSITORY)} | QUIET | (environ or {}),
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._timer = threading.Timer(deadline_seconds, self._kill)
        self._timer.start()

    @property
    def said(self):
        """What it has written."""
        return self._path.read_text(errors="replace")

    def end(self):
        """Waits for its end; returns the exit code."""
        code = self.process.wait()
        self._timer.cancel()
        return code

    def close(self):
        """Ends it, if it runs."""
        self._timer.cancel()
        self._kill()
        self.process.wait()

    def _kill(self):
        # Not reaped yet, its group's number is its own.
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)


def processes_of(folder):
    """Returns what the workers of a run wrote down about themselves."""
    path = folder / "processes.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def runs(pid, start):
    """Returns whether a process runs that began at a tick; one that nobody has reaped does not."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] not in "ZX" and int(fields[19]) == start
