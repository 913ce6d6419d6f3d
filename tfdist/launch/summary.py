"""The report of an attempt for the terminal and for launch.json."""

from tfdist.launch.causes import exception_of, shell_code
from tfdist.process.exits import INTERRUPTED, STOPPED

# The part of the root cause's log that the summary shows.
_SHOWN_LINES = 12
_SHOWN_CHARACTERS = 300


def summarize(verdict, exits, reports=None, shown=False):
    """Returns a report: the worker that failed first, how, its last lines, and the failures that followed.

    Args:
        verdict: a `Verdict` of another kind than "done".
        exits: the `Exit`s of the attempt.
        reports: rank → the last report of its heartbeats, for a hang.
        shown: whether the terminal has shown the last lines of the root cause already.

    Returns:
        Lines.
    """
    lines = [f"{_TITLES.get(verdict.kind, 'ended')}: {verdict.cause}."]
    if verdict.kind in ("stopped", "preempted"):
        said = [f"{item.worker} {item}" for item in exits if item.code not in (0, STOPPED, INTERRUPTED)]
        return lines + ([f"  {'; '.join(said)}"] if said else [])
    roots = [item for item in exits if item.worker.rank in verdict.roots]
    others = [item for item in exits if item.worker.rank not in verdict.roots]
    for item in roots[: 0 if shown else 1]:
        lines += _details(item)
    if verdict.kind == "hang":
        lines += [f"  {_describe_state(rank, report)}" for rank, report in sorted((reports or {}).items())]
        lines += ["  all workers were ended; stacks that they have written are in the logs"]
    elif verdict.kind == "early":
        lines += [line for item in others if item.code and not item.asked for line in _consequence(item)]
    elif verdict.kind not in ("mistake", "nan"):
        said = [f"{item.worker} {_describe_end(item)}" for item in others if item.code]
        lines += [f"  consequences: {'; '.join(said)}"] if said else []
    return lines


def record(attempt, workers, verdict, exits, began, seconds, failed, then):
    """Returns an attempt's entry of launch.json.

    Args:
        attempt: the number of the attempt, from 0.
        workers: its `Worker`s.
        verdict: its `Verdict`.
        exits: its `Exit`s.
        began: the time of its start as ISO 8601.
        seconds: its duration.
        failed: when its first failure was seen, in Unix seconds; None without one.
        then: what the launcher does next, in words.
    """
    codes = {item.worker.rank: item.code for item in exits}
    return {
        "attempt": attempt,
        "began": began,
        "seconds": round(seconds, 1),
        "failed": failed,
        "workers": len(workers),
        "slots": [str(worker.slot) for worker in workers],
        "kind": verdict.kind,
        "cause": verdict.cause,
        "roots": list(verdict.roots),
        "exit_codes": [
            None if codes.get(worker.rank) is None else shell_code(codes[worker.rank]) for worker in workers
        ],
        "then": then,
    }


_TITLES = {
    "failure": "root cause",
    "early": "root cause",
    "hang": "root cause",
    "lost": "root cause",
    "mistake": "mistake",
    "nan": "not finite",
    "preempted": "preempted",
    "stopped": "ended",
}


def _details(item):
    if item.code is None:
        return _last_lines(item)
    lines = []
    if exception := exception_of(item.tail):
        lines += [f"  exception: {exception}"]
    if item.tail:
        lines += [f"  its last lines ({item.worker.log}):", *_last_lines(item)]
    return lines


def _last_lines(item):
    cut = (line[:_SHOWN_CHARACTERS] + " …" * (len(line) > _SHOWN_CHARACTERS) for line in item.tail[-_SHOWN_LINES:])
    return [f"  | {line}" for line in cut]


def _consequence(item):
    last = exception_of(item.tail) or (item.tail[-1] if item.tail else "")
    return [f"  consequence: {item.worker} {item}{': ' if last else ''}{last}"]


def _describe_end(item):
    return "was ended by the launcher" if item.asked else str(item)


def _describe_state(rank, report):
    if report["step"] is None:
        return f"worker {rank}: no heartbeat"
    stopped = ", stopped" * report["stopped"]
    place = f'step {report["step"]}, phase "{report["phase"]}"'
    return f"worker {rank}: {place}, no heartbeat for {report['silent']:.0f} s{stopped}"
