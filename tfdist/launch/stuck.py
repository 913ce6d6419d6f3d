"""Finds a stuck worker from the heartbeats that the agents report."""

from dataclasses import dataclass

# A worker in "steps" or "vote" may itself wait for others, so it is less likely the stuck one.
_WAITING = {"steps": 1, "vote": 2}


@dataclass(frozen=True)
class StuckWorker:
    """The worker that the others wait for.

    Attributes:
        rank: its rank.
        stopped: whether it is stopped, as by SIGSTOP.
        step: the step of its last heartbeat; None without one.
        phase: the phase of its last heartbeat.
        silent: seconds since its last heartbeat.
    """

    rank: int
    stopped: bool
    step: int | None
    phase: str | None
    silent: float | None


def find_stuck(reports):
    """Finds the worker that the others wait for.

    Args:
        reports: rank → the report of `beats.BeatReader`, of running workers.

    Returns:
        A `StuckWorker`, or None where every worker is in phase "end".
    """
    longest = max((report["silent"] or 0.0 for report in reports.values()), default=0.0)
    # A worker without a heartbeat has not begun, or sends none at all. Where others step, it sends none.
    begun = any(report["phase"] not in (None, "start") for report in reports.values())
    candidates = [
        StuckWorker(rank, **report)
        for rank, report in reports.items()
        if report["phase"] != "end"
        and (report["stopped"] or (not begun if report["silent"] is None else report["silent"] >= longest / 2))
    ]
    return min(candidates, key=_sort_key, default=None)


def is_hung(reports, hang_seconds, first_step_seconds):
    """Returns whether a worker that sends heartbeats has sent none for too long; with 0 seconds, never."""
    limits = {"end": 0.0, "start": first_step_seconds}
    return any(
        0 < limits.get(report["phase"], hang_seconds) < report["silent"]
        for report in reports.values()
        if hang_seconds and report["silent"] is not None
    )


def _sort_key(worker):
    step = -1 if worker.step is None else worker.step
    return not worker.stopped, step, _WAITING.get(worker.phase, 0), -(worker.silent or 0.0), worker.rank
