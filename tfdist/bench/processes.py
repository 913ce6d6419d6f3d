"""Starts, asks and ends the processes of one contender, each by a deadline."""

import contextlib
import dataclasses
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from tfdist.cluster.ports import free_ports
from tfdist.cluster.rendezvous.proxies import plan_bypass
from tfdist.cluster.tf_config import Cluster, Task, core_shares

_POLL_SECONDS = 0.05


class Ended(Exception):
    """The end of a contender that cannot continue; the message says why."""


@dataclasses.dataclass(frozen=True)
class WorkerPlace:
    """The place where a worker runs.

    Attributes:
        host: the address at which the others reach it.
        prefix: words that precede its command, such as those of `taskset` or `ip netns exec`.
    """

    host: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Start:
    """The command and the whole environment with which a worker starts."""

    command: tuple[str, ...]
    environ: dict[str, str]


def pin(places):
    """Returns the places with each worker pinned to its share of the cores, as `tfdist.launch` does."""
    shares = pinned_shares(len(places))
    if shares is None:
        return list(places)
    return [
        WorkerPlace(place.host, (*place.prefix, "taskset", "--cpu-list", ",".join(map(str, cores))))
        for place, cores in zip(places, shares, strict=True)
    ]


def pinned_shares(workers):
    """Returns each worker's cores; None if none is pinned: one worker, more workers than cores, or no `taskset`."""
    return core_shares(workers) if shutil.which("taskset") else None


def child_starts(places):
    """Returns the `Start` of a `tfdist.bench.child` on each `WorkerPlace`, with TF_CONFIG if there are several."""
    addresses = tuple(f"{place.host}:{port}" for place, port in zip(places, free_ports(len(places)), strict=True))
    inherited = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    starts = []
    for rank, place in enumerate(places):
        environ = inherited | plan_bypass(inherited, addresses)
        if len(places) > 1:
            environ |= Cluster({"worker": addresses}, Task("worker", rank), "bench").environment()
        starts.append(Start((*place.prefix, sys.executable, "-m", "tfdist.bench.child"), environ))
    return starts


class ContenderGroup:
    """The processes of one contender, one per worker.

    Args:
        contender: its name.
        workers, replicas: the numbers of workers and replicas.
        config: the `BenchConfig` as a dict.
        timeout_seconds: the time limit of each answer.
        starts: a `Start` per worker; by default they all run on this machine, each on its share of the cores.
        pause: whether to stop the processes between requests, for those that would otherwise keep running.

    Attributes:
        has_ended: whether its processes are gone.
    """

    def __init__(self, contender, workers, replicas, config, timeout_seconds, *, starts=None, pause=False):
        self._about = {"contender": contender, "workers": workers, "replicas": replicas, "config": config}
        self._timeout = timeout_seconds
        self._pause = pause
        self.has_ended = False
        self._members = [_Member(start) for start in starts or child_starts(pin([WorkerPlace()] * workers))]

    def ask(self, do, **more):
        """Sends all workers the same request; returns the chief's answer.

        Raises:
            Ended: one failed, or did not answer in time; the group has been ended.
        """
        if self.has_ended:
            raise Ended("its processes have ended with another of its contenders")
        request = self._about | {"do": do} | more
        deadline = time.monotonic() + self._timeout
        try:
            self._signal(signal.SIGCONT)
            for member in self._members:
                member.send(request)
            answers = self._gather(deadline)
        except Ended:
            self.end()
            raise
        self._signal(signal.SIGSTOP)
        return answers[0]

    def _gather(self, deadline):
        answers = [None] * len(self._members)
        while None in answers:
            if time.monotonic() > deadline:
                raise Ended(f"no answer within {self._timeout:g} s (--timeout_seconds)")
            # All in turns: if one has died, the others may wait for it forever.
            for rank, member in enumerate(self._members):
                if answers[rank] is None:
                    answers[rank] = member.poll()
        return answers

    def _signal(self, number):
        for member in self._members if self._pause else ():
            member.signal(number)

    def end(self):
        """Ends the processes; they hold nothing that must be saved."""
        self.has_ended = True
        for member in self._members:
            member.end()


class _Member:
    def __init__(self, start):
        # A file, not a pipe, because it is read only if the process ends.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `end`)
        self._process = subprocess.Popen(
            start.command,
            env=start.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )
        self._answers = queue.SimpleQueue()
        threading.Thread(target=self._read_answers, daemon=True).start()

    def _read_answers(self):
        with self._process.stdout as lines:
            for line in lines:
                self._answers.put(line)
        self._answers.put(None)

    def send(self, request):
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(request), file=self._process.stdin, flush=True)

    def poll(self):
        try:
            line = self._answers.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            return None
        if line is None:
            raise Ended(f"its process ended with code {self._process.wait()}: {self._last_error_line()}")
        answer = json.loads(line)
        if "error" in answer:
            raise Ended(answer["error"])
        return answer

    def _last_error_line(self):
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "no output"

    def signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def end(self):
        self.signal(signal.SIGKILL)
        self._process.wait()
        self._process.stdin.close()
        self._errors.close()
