"""Starts, asks and ends the processes of one contender, each by a deadline."""

import dataclasses
import os
import shutil
import signal
import sys

from tfdist.cluster.cores import core_shares
from tfdist.cluster.members import Cluster, Task
from tfdist.cluster.ports import free_ports
from tfdist.cluster.rendezvous.proxies import plan_bypass
from tfdist.process.child import ChildGroup, Start


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
        self._children = ChildGroup(starts or child_starts(pin([WorkerPlace()] * workers)))

    def ask(self, do, **more):
        """Sends all workers the same request; returns the chief's answer.

        Raises:
            Ended: one failed, or did not answer in time; the group has been ended.
        """
        if self.has_ended:
            raise Ended("its processes have ended with another of its contenders")
        self._signal(signal.SIGCONT)
        answer = self._children.ask(do, deadline_seconds=self._timeout, **(self._about | more))
        if "error" in answer:
            self.has_ended = True
            raise Ended(shorten(answer["error"]) + " (--timeout_seconds)" * answer.get("deadline", False))
        self._signal(signal.SIGSTOP)
        return answer

    def _signal(self, number):
        if self._pause:
            self._children.signal(number)

    def end(self):
        """Ends the processes; they hold nothing that must be saved."""
        self.has_ended = True
        self._children.end()


def shorten(error):
    """Returns the most informative line of an error: the first, or the last if TensorFlow quotes a user's code."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    kind, quotes, _ = lines[0].partition("in user code:")
    return ((kind + lines[-1]) if quotes else lines[0])[:200]
