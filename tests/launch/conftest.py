"""Launchers for tests: each has its own folder, plain Python scripts as workers, and a deadline."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest
from support.processes import REPOSITORY, run_python

PRELUDE = """
import json, os, pathlib, signal, subprocess, sys, time
from tfdist.process.heartbeat import make_heartbeat
from tfdist.process.faults import make_faults
rank = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
size = len(json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"])
attempt = int(os.environ["TFDIST_ATTEMPT"])
pathlib.Path(f"pid-{rank}").write_text(str(os.getpid()))
def wait_for(name):
    while not pathlib.Path(name).exists():
        time.sleep(0.02)
"""


class Started:
    """A running launcher."""

    def __init__(self, process, folder):
        self.process, self.folder, self.pid = process, folder, process.pid

    def wait_for(self, *names, seconds=20):
        """Waits until files exist and are not empty."""
        until(lambda: all(self._written(name) for name in names), seconds)

    def worker_pid(self, name):
        """Returns the process id that a worker wrote to a file."""
        self.wait_for(name)
        return int((self.folder / name).read_text())

    def end(self):
        """Waits for the end of the launcher; returns the exit code, stdout and stderr."""
        out, err = self.process.communicate()
        return self.process.returncode, out, err

    def _written(self, name):
        path = self.folder / name
        return path.exists() and path.stat().st_size > 0


def until(check, seconds=20):
    """Waits until a check is true; fails after the deadline."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def is_alive(pid):
    """Returns whether a process runs; False for a zombie."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture
def eventually():
    """Returns `until`."""
    return until


@pytest.fixture
def alive():
    """Returns `is_alive`."""
    return is_alive


@pytest.fixture
def script(tmp_path):
    """Returns a function (code) → the path of a worker's script."""

    def write(code, name="worker.py"):
        path = tmp_path / name
        path.write_text(PRELUDE + code)
        return path

    return write


@pytest.fixture
def launch(tmp_path):
    """Returns a function (flags, -- , command) → an `Ended`: a launcher, run to its end."""

    def run(*arguments, environ=None):
        return run_python("-m", "tfdist.launch", *arguments, environ=environ, deadline_seconds=40, folder=tmp_path)

    return run


@pytest.fixture
def start(tmp_path):
    """Returns a function that starts a module, by default the launcher, in `tmp_path`; returns a `Started`."""
    with contextlib.ExitStack() as stack:

        def begin(*arguments, module="tfdist.launch", environ=None, **pipes):
            clean = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
            process = subprocess.Popen(
                [sys.executable, "-m", module, *map(str, arguments)],
                env=clean | {"PYTHONPATH": str(REPOSITORY), "TMPDIR": str(tmp_path)} | (environ or {}),
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                **pipes,
            )
            timer = threading.Timer(40, os.killpg, (process.pid, signal.SIGKILL))
            timer.start()
            stack.callback(_finish, process, timer)
            return Started(process, tmp_path)

        yield begin


def _finish(process, timer):
    timer.cancel()
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
    process.wait()


@pytest.fixture
def attempts(tmp_path):
    """Returns a function () → the content of launch.json."""
    return lambda: json.loads((tmp_path / "runs" / "launch-1" / "launch.json").read_text())


@pytest.fixture
def log(tmp_path):
    """Returns a function (rank) → a worker's log."""
    return lambda rank: (tmp_path / "runs" / "launch-1" / f"worker-{rank}.log").read_text(errors="replace")
