"""Faults on purpose: what is to go wrong, where and when, for rehearsals and for tests."""

import dataclasses
import os
import signal
import sys
import time

from tfdist.process.errors import UsageError

# The launcher sets them: the faults, and how many times the group was started before.
FAULTS = "TFDIST_FAULTS"
ATTEMPT = "TFDIST_ATTEMPT"

# The launcher knows one kind more: "lose", a kill whose worker stays away.
# SIGKILL, SIGTERM, SIGSTOP, an exception, exit code 0 too early, a pause, a damaged checkpoint.
KINDS = ("kill", "term", "hang", "exception", "exit", "slow", "torn_checkpoint")
# Before the first step; between two calls; within a call, while the others wait for this worker; three places of a
# save, and after it; after the last step of an epoch; in validation.
POINTS = ("start", "step", "call", "save_begin", "save_files", "save_rename", "save_end", "epoch_end", "validation")


class PlannedFaultError(RuntimeError):
    """The exception of a fault on purpose."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault, struck once.

    Attributes:
        kind: one of KINDS.
        worker: the rank of the worker that it strikes.
        step: steps done when it strikes; at another point than "start", the first time that so many or more are done.
        point: one of POINTS.
        attempt: at which start of the group: 0 is the first.
        seconds: how long a "slow" one lasts.
    """

    kind: str
    worker: int = 0
    step: int = 0
    point: str = "step"
    attempt: int = 0
    seconds: float = 1.0

    def __str__(self):
        return f"{self.kind}:worker={self.worker},step={self.step},point={self.point},attempt={self.attempt}"


def parse(text):
    """Reads faults, such as `kill:worker=1,step=50;hang:worker=0,step=80,point=call`.

    Returns:
        A tuple of `Fault`s.

    Raises:
        ValueError: says which part is wrong, and what may stand there.
    """
    return tuple(_parse_one(part.strip()) for part in text.split(";") if part.strip())


def _parse_one(text):
    kind, _, rest = text.partition(":")
    if kind not in KINDS:
        raise UsageError(f"chaos {text!r}: {kind!r} is no kind of fault. Use one of {', '.join(KINDS)}, lose.")
    values = {"point": "save_end"} if kind == "torn_checkpoint" else {}
    readers = {"worker": int, "step": int, "attempt": int, "seconds": float, "point": str}
    for item in filter(None, rest.split(",")):
        name, _, value = item.partition("=")
        if name not in readers:
            raise UsageError(f"chaos {text!r}: {name!r} is unknown. Use {', '.join(readers)}.")
        try:
            values[name] = readers[name](value)
        except ValueError:
            raise UsageError(f"chaos {text!r}: {name} is {value!r}. Use a number.") from None
    fault = Fault(kind, **values)
    if fault.point not in POINTS:
        raise UsageError(f"chaos {text!r}: {fault.point!r} is no point. Use one of {', '.join(POINTS)}.")
    if min(fault.worker, fault.step, fault.attempt, fault.seconds) < 0:
        raise UsageError(f"chaos {text!r}: a number is below 0. Use 0 or more.")
    return fault


class Faults:
    """The faults that this worker has still to suffer.

    Args:
        faults: `Fault`s, of any worker and attempt.
        worker: this worker's rank.
        attempt: how many times the group was started before.

    Attributes:
        steps: the steps after which a fault is to strike any worker of this attempt.
    """

    def __init__(self, faults=(), worker=0, attempt=0):
        self._left = [fault for fault in faults if (fault.worker, fault.attempt) == (worker, attempt)]
        self.steps = tuple(sorted({fault.step for fault in faults if fault.attempt == attempt and fault.step}))

    def waits_at(self, point):
        """Says whether a fault is left that strikes at a point."""
        return any(fault.point == point for fault in self._left)

    def strike(self, point, step, folder=None):
        """Strikes what is due; returns where there is nothing, or where the fault lets the worker go on.

        Args:
            point: one of POINTS: where the worker is.
            step: steps done.
            folder: the checkpoint that was just written, for "torn_checkpoint".

        Raises:
            PlannedFaultError: the fault is an exception.
        """
        due = [fault for fault in self._left if fault.point == point and fault.step <= step]
        for fault in due:
            self._left.remove(fault)
            print(f"tfdist: fault on purpose, after step {step}: {fault}", file=sys.stderr, flush=True)
            _strike(fault, folder)


def make_faults(environ):
    """Gives a function rank → `Faults` of a worker, as the launcher has set them; none by default."""
    planned, attempt = parse(environ.get(FAULTS, "")), int(environ.get(ATTEMPT, "0"))
    return lambda worker: Faults(planned, worker, attempt)


def _strike(fault, folder):
    if fault.kind == "exception":
        raise PlannedFaultError(f"fault on purpose: {fault}")
    if fault.kind == "exit":
        # Not sys.exit, which a thread, or somebody's `except`, would keep from the process.
        os._exit(0)
    if fault.kind == "slow":
        time.sleep(fault.seconds)
        return
    if fault.kind == "torn_checkpoint":
        _tear(folder)
    sent = {"term": signal.SIGTERM, "hang": signal.SIGSTOP}.get(fault.kind, signal.SIGKILL)
    os.kill(os.getpid(), sent)


def _tear(folder):
    """Cuts the largest file of a checkpoint in half, as a machine does that loses power."""
    largest = max((path for path in folder.iterdir() if path.is_file()), key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
