"""Which worker the others wait for, from what the agents report of their beats."""

from dataclasses import dataclass

# A worker in "steps" or "vote" waits itself.
_WAITING = {"steps": 1, "vote": 2}


@dataclass(frozen=True)
class Late:
    """The worker that the others wait for.

    Attributes:
        rank: which.
        stopped: whether it is stopped, as by SIGSTOP.
        step: of its last beat; None: it never beat.
        phase: of its last beat.
        silent: seconds since then.
    """

    rank: int
    stopped: bool
    step: int | None
    phase: str | None
    silent: float | None


def find_late(reports):
    """Finds the worker that the others wait for.

    Args:
        reports: rank → what `beats.Beats` reports, of workers that run.

    Returns:
        A `Late`, or None where every worker has come to its end.
    """
    longest = max((report["silent"] or 0.0 for report in reports.values()), default=0.0)
    # Nobody takes a step with a worker that has not begun: where others do, it is one that never beats.
    begun = any(report["phase"] not in (None, "start") for report in reports.values())
    late = [
        Late(rank, **report)
        for rank, report in reports.items()
        if report["phase"] != "end"
        and (report["stopped"] or (not begun if report["silent"] is None else report["silent"] >= longest / 2))
    ]
    return min(late, key=_lateness, default=None)


def is_hung(reports, hang_seconds, first_step_seconds):
    """Says whether a worker that beats has been silent for too long; 0 seconds: never."""
    limits = {"end": 0.0, "start": first_step_seconds}
    return any(
        0 < limits.get(report["phase"], hang_seconds) < report["silent"]
        for report in reports.values()
        if hang_seconds and report["silent"] is not None
    )


def _lateness(late):
    step = -1 if late.step is None else late.step
    return not late.stopped, step, _WAITING.get(late.phase, 0), -(late.silent or 0.0), late.rank
