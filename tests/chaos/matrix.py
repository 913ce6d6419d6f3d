"""The matrix of faults as data: cells, and chains of them that one launched run has one after the other."""

import dataclasses

from tfdist.process.faults import Fault

# job.py: six steps an epoch, two a call, a checkpoint after each call.
STEPS = 6
KINDS = ("kill", "term", "hang", "exception", "exit")
# Point → at which step of an epoch it is injected, and the phase that the worker has told last.
POINTS = {
    "start": (0, "input"),
    "step": (2, "vote"),
    # Before the second of the call's two steps.
    "call": (3, "steps"),
    "save_begin": (2, "save"),
    "save_files": (4, "save"),
    "save_rename": (6, "save"),
    "epoch_end": (6, "save"),
    "validation": (6, "evaluate"),
}
# What launch.json calls each, and the exit code of the worker in which it was injected, as a shell has it.
VERDICTS = {
    "kill": ("failure", 137),
    "term": ("preempted", 75),
    "hang": ("hang", 137),
    "exception": ("failure", 1),
    "exit": ("early", 0),
}
# For so long the others have waited in the collective when a fault is injected within a call.
WAIT_SECONDS = 0.5


@dataclasses.dataclass(frozen=True)
class Cell:
    """A fault at a point of a run.

    Attributes:
        kind: one of KINDS.
        point: one of POINTS.
        worker: in which it is injected.
    """

    kind: str
    point: str
    worker: int

    def __str__(self):
        return f"{self.kind} at {self.point} of worker {self.worker}"


def every_cell(kind, workers):
    """Returns the cells of a kind, one a point: they wander over the workers, but the chief alone saves."""
    first = KINDS.index(kind)
    return [
        Cell(kind, point, 0 if point.startswith("save") else (first + number) % workers)
        for number, point in enumerate(POINTS)
    ]


def faults_of(cells):
    """Returns the `Fault` of each cell: the first is injected into the first start in its first epoch, and so on."""
    faults = []
    for number, cell in enumerate(cells):
        step, _ = POINTS[cell.point]
        # At "start": before its first step, wherever the last fault has left the run.
        step = number * STEPS + step if step else 0
        faults.append(Fault(cell.kind, cell.worker, step, cell.point, attempt=number))
    return faults


def chaos_of(cells):
    """Returns the launcher's `--chaos` for a chain."""
    parts = []
    for fault in faults_of(cells):
        if fault.point == "call":
            waited = dataclasses.replace(fault, kind="slow", seconds=WAIT_SECONDS)
            parts.append(f"{waited},seconds={WAIT_SECONDS}")
        parts.append(str(fault))
    return ";".join(parts)
