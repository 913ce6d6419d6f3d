"""Real workers that stay: tests give them jobs, one after the other, and a job that fails fails alone.

A job is a function (strategy, *arguments) → value of a module that the workers can import, such as those of
`support.worker_jobs`. All jobs of a group share the start of the workers and their import of TensorFlow.
"""

import contextlib
import dataclasses
import itertools
import os
import pickle
import signal
import subprocess
import sys
import time
from typing import Any

from support.processes import REPOSITORY, worker_environs

START_SECONDS = 60
# After one worker has failed, another one may wait for it in a collective, or find out that it is gone and say so.
PATIENCE_SECONDS = 20


class JobError(Exception):
    """A job that has not ended well on every worker; the message says for each worker what came of it."""


@dataclasses.dataclass(frozen=True)
class Done:
    """What a job came to on one worker: what it returned, and what the worker wrote meanwhile."""

    value: Any
    said: str


@dataclasses.dataclass(frozen=True)
class Failed:
    """What a job came to on a worker where it failed: a traceback, or how the process ended."""

    text: str
    # The last line of the traceback; None where the process is lost.
    error: str | None = None


class WorkerGroup:
    """Workers on loopback: started with the first job, and again with the next one after a job that ended them."""

    def __init__(self, folder, workers=2):
        self._folder = folder
        self._ranks = range(workers)
        self._processes = []
        self._numbers = itertools.count()
        self._known = {}

    def __call__(self, job, *arguments, deadline_seconds=120):
        """Runs a job on all workers, or recalls what it came to with the same arguments; returns a `Done` for each.

        Raises:
            JobError: it failed on a worker, ended a worker, or was not over in time.
        """
        key = (job, arguments)
        if key not in self._known:
            self._known[key] = self._run(job, arguments, deadline_seconds)
        results = self._known[key]
        if any(isinstance(result, Failed) for result in results):
            raise JobError("\n".join(f"Worker {rank}: {_told(results[rank])}" for rank in self._ranks))
        return results

    def close(self):
        """Ends the workers, if there are any."""
        for process in self._processes:
            # Not reaped yet, its group's number is its own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.stdin.close()
            process.wait()
        self._processes = []

    def _run(self, job, arguments, deadline_seconds):
        if not self._processes:
            self._start()
            deadline_seconds += START_SECONDS
        number = next(self._numbers)
        (self._folder / f"job-{number}.pickle").write_bytes(pickle.dumps((job, arguments)))
        lengths = [self._log(rank).stat().st_size for rank in self._ranks]
        for process in self._processes:
            # A process that has ended is found below.
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(f"{number}\n".encode())
        self._wait(number, time.monotonic() + deadline_seconds)
        results = [self._result(number, rank, lengths[rank]) for rank in self._ranks]
        errors = {result.error for result in results if isinstance(result, Failed)}
        # Where all have failed alike, none waits for another in a collective: the group can take the next job.
        if errors and (None in errors or len(errors) > 1 or any(isinstance(result, Done) for result in results)):
            self.close()
        return results

    def _start(self):
        command = [sys.executable, str(REPOSITORY / "tests" / "support" / "worker.py"), str(self._folder)]
        for rank, environ in enumerate(worker_environs(len(self._ranks))):
            with self._log(rank).open("ab") as log:
                process = subprocess.Popen(
                    command,
                    env=environ,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    bufsize=0,
                    start_new_session=True,
                )
            self._processes.append(process)

    def _wait(self, number, deadline):
        """Waits until all workers have answered or ended; not for long once one has failed."""
        patient = True
        while time.monotonic() < deadline:
            answers = [self._answer(number, rank) for rank in self._ranks]
            running = [process.poll() is None for process in self._processes]
            if all(answer or not runs for answer, runs in zip(answers, running, strict=True)):
                return
            if patient and (not all(running) or any(answer and answer[1] for answer in answers)):
                patient = False
                deadline = min(deadline, time.monotonic() + PATIENCE_SECONDS)
            time.sleep(0.01)

    def _result(self, number, rank, length):
        answer = self._answer(number, rank)
        said = self._log(rank).read_bytes()[length:].decode(errors="replace")
        if answer is None:
            code = self._processes[rank].poll()
            how = (
                "was not over in time, and the worker was killed" if code is None else f"ended the worker: code {code}"
            )
            return Failed(f"the job {how}. It wrote at last:\n{said[-3000:]}")
        value, error = answer
        return Failed(error, error.splitlines()[-1]) if error else Done(value, said)

    def _answer(self, number, rank):
        """Returns what worker.py has written for a job, (value, traceback), or None before it has."""
        path = self._folder / f"job-{number}-of-{rank}.pickle"
        return pickle.loads(path.read_bytes()) if path.exists() else None

    def _log(self, rank):
        return self._folder / f"worker-{rank}.log"


def _told(result):
    return result.text if isinstance(result, Failed) else "the job ended well."
