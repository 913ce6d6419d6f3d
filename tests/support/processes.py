"""Real processes for tests: every one has a deadline that ends in SIGKILL, for a hung worker swallows SIGTERM."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

from tfdist.cluster.ports import free_ports

REPOSITORY = pathlib.Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a process ended; `code` is negative for a signal, -9 for the deadline."""

    code: int
    out: str
    err: str


def run_python(*arguments, environ=None, deadline_seconds=120, folder=REPOSITORY):
    """Runs `python *arguments` to its end."""
    (ended,) = run_together([arguments], [environ or {}], deadline_seconds, folder)
    return ended


def run_workers(*arguments, workers=2, environ=None, deadline_seconds=120, folder=REPOSITORY):
    """Runs `python *arguments` once a worker, each with its TF_CONFIG on loopback; returns an `Ended` each."""
    return run_together([arguments] * workers, worker_environs(workers, environ), deadline_seconds, folder)


def worker_environs(workers, environ=None):
    """Returns the environment of each of so many workers on loopback."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    tasks = [{"type": "worker", "index": index} for index in range(workers)]
    configs = [json.dumps({"cluster": {"worker": addresses}, "task": task}) for task in tasks]
    return [_clean_environ() | (environ or {}) | {"TF_CONFIG": config} for config in configs]


def _clean_environ():
    clean = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    clean["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    return clean


def run_together(commands, environs, deadline_seconds, folder):
    """Runs several Python commands side by side."""
    processes = [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env=_clean_environ() | environ,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for command, environ in zip(commands, environs, strict=True)
    ]
    deadline = time.monotonic() + deadline_seconds
    return [_wait(process, deadline) for process in processes]


def _wait(process, deadline):
    try:
        out, err = process.communicate(timeout=max(1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
    return Ended(process.returncode, out, err)
