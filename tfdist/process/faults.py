"""Fault injection for rehearsals and tests: which fault happens, in which worker, and when."""

import dataclasses
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfdist.process.errors import UsageError

# The launcher sets them: the faults, and the number of earlier starts of the workers.
FAULTS = "TFDIST_FAULTS"
ATTEMPT = "TFDIST_ATTEMPT"

# In this order: SIGKILL, SIGTERM, SIGSTOP, an exception, exit code 0 too early, a pause, a damaged checkpoint.
# The launcher has one more kind: "lose", a kill whose worker does not come back.
KINDS = ("kill", "term", "hang", "exception", "exit", "slow", "torn_checkpoint")
# In this order: before the first step; between two calls; within a call, while the others wait for this worker; at
# three places of a save; after the save; after the last step of an epoch; in validation.
POINTS = ("start", "step", "call", "save_begin", "save_files", "save_rename", "save_end", "epoch_end", "validation")
_SAVE_POINTS = tuple(point for point in POINTS if point.startswith("save_"))


class PlannedFaultError(RuntimeError):
    """The exception of an injected fault."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault, injected once.

    Attributes:
        kind: one of KINDS.
        worker: the rank of the worker that has the fault.
        step: steps done when the fault is due; it is injected the first time that its point is reached with so many
            steps or more.
        point: one of POINTS.
        attempt: the start of the workers at which it is due; 0 is the first.
        seconds: the duration of a "slow" fault.
    """

    kind: str
    worker: int = 0
    step: int = 0
    point: str = "step"
    attempt: int = 0
    seconds: float = 1.0

    def __str__(self) -> str:
        return f"{self.kind}:worker={self.worker},step={self.step},point={self.point},attempt={self.attempt}"


def parse(text: str) -> tuple[Fault, ...]:
    """Parses faults, such as `kill:worker=1,step=50;hang:worker=0,step=80,point=call`.

    Returns:
        A tuple of `Fault`s.

    Raises:
        ValueError: a part is wrong; the message names it and the allowed values.
    """
    return tuple(_parse_one(part.strip()) for part in text.split(";") if part.strip())


def _parse_one(text: str) -> Fault:
    kind, _, rest = text.partition(":")
    if kind not in KINDS:
        raise UsageError(f"chaos {text!r}: {kind!r} is not a kind of fault. Use one of {', '.join(KINDS)}, lose.")
    values: dict[str, Any] = {"point": "save_end"} if kind == "torn_checkpoint" else {}
    readers: dict[str, Callable[[str], int | float | str]] = {
        "worker": int,
        "step": int,
        "attempt": int,
        "seconds": float,
        "point": str,
    }
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
        raise UsageError(f"chaos {text!r}: {fault.point!r} is not a point. Use one of {', '.join(POINTS)}.")
    if kind == "torn_checkpoint" and fault.point not in _SAVE_POINTS:
        raise UsageError(
            f"chaos {text!r}: at {fault.point!r} there is no checkpoint. Use one of {', '.join(_SAVE_POINTS)}."
        )
    if min(fault.worker, fault.step, fault.attempt, fault.seconds) < 0:
        raise UsageError(f"chaos {text!r}: a number is below 0. Use 0 or more.")
    return fault


class Faults:
    """The faults that are still to be injected into this worker.

    Args:
        faults: `Fault`s, of any worker and attempt.
        worker: this worker's rank.
        attempt: the number of earlier starts of the workers.

    Attributes:
        steps: the steps after which any worker of this attempt has a fault.
    """

    def __init__(self, faults: Sequence[Fault] = (), worker: int = 0, attempt: int = 0) -> None:
        self._pending = [fault for fault in faults if (fault.worker, fault.attempt) == (worker, attempt)]
        self.steps = tuple(sorted({fault.step for fault in faults if fault.attempt == attempt and fault.step}))

    def waits_at(self, point: str) -> bool:
        """Returns whether a fault at a point is still to be injected."""
        return any(fault.point == point for fault in self._pending)

    def inject(self, point: str, step: int, folder: pathlib.Path | None = None) -> None:
        """Injects the faults that are due; returns if there are none, or if they let the worker continue.

        Args:
            point: the worker's place, one of POINTS.
            step: steps done.
            folder: the folder of the checkpoint that was just written, for "torn_checkpoint".

        Raises:
            PlannedFaultError: the fault is an exception.
        """
        due = [fault for fault in self._pending if fault.point == point and fault.step <= step]
        for fault in due:
            self._pending.remove(fault)
            print(f"tfdist: injected fault after step {step}: {fault}", file=sys.stderr, flush=True)
            _inject(fault, folder)


def make_faults(environ: Mapping[str, str]) -> Callable[[int], Faults]:
    """Returns a function rank → `Faults` of that worker, as the launcher has set them; by default there are none."""
    planned, attempt = parse(environ.get(FAULTS, "")), int(environ.get(ATTEMPT, "0"))
    return lambda worker: Faults(planned, worker, attempt)


def _inject(fault: Fault, folder: pathlib.Path | None) -> None:
    if fault.kind == "exception":
        raise PlannedFaultError(f"injected fault: {fault}")
    if fault.kind == "exit":
        # Not sys.exit, because in a thread, or under a bare `except`, it does not end the process.
        os._exit(0)
    if fault.kind == "slow":
        time.sleep(fault.seconds)
        return
    if fault.kind == "torn_checkpoint" and folder is not None:
        _truncate(folder)
    sent = {"term": signal.SIGTERM, "hang": signal.SIGSTOP}.get(fault.kind, signal.SIGKILL)
    os.kill(os.getpid(), sent)


def _truncate(folder: pathlib.Path) -> None:
    """Cuts the largest file of a checkpoint in half, as a power failure may do."""
    largest = max((path for path in folder.iterdir() if path.is_file()), key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
