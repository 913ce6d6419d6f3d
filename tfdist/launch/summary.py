"""What the terminal and launch.json say of an attempt; text only."""

from tfdist.launch.causes import exception_of, shell_code
from tfdist.process.exits import INTERRUPTED, STOPPED

# Of the root's log, shown in the summary.
_SHOWN_LINES = 12
_SHOWN_CHARACTERS = 300


def summarize(verdict, exits, reports=None, told=False):
    """Says who failed first, how, with which last lines, and marks the rest as consequences.

    Args:
        verdict: a `Verdict` of another kind than "done".
        exits: the `Exit`s it was made from.
        reports: rank → the last report of its beats, for a hang.
        told: whether the terminal has shown the root's last lines already.

    Returns:
        Lines.
    """
    lines = [f"{_TITLES.get(verdict.kind, 'ended')}: {verdict.cause}."]
    if verdict.kind in ("stopped", "preempted"):
        said = [f"{item.worker} {item}" for item in exits if item.code not in (0, STOPPED, INTERRUPTED)]
        return lines + ([f"  {'; '.join(said)}"] if said else [])
    roots = [item for item in exits if item.worker.rank in verdict.roots]
    others = [item for item in exits if item.worker.rank not in verdict.roots]
    for item in roots[: 0 if told else 1]:
        lines += _details(item)
    if verdict.kind == "hang":
        lines += [f"  {_place(rank, report)}" for rank, report in sorted((reports or {}).items())]
        lines += ["  all were ended; where their stacks are known, they are in the logs"]
    elif verdict.kind == "early":
        lines += [line for item in others if item.code and not item.asked for line in _follower(item)]
    elif verdict.kind != "mistake":
        said = [f"{item.worker} {_how(item)}" for item in others if item.code]
        lines += [f"  consequences: {'; '.join(said)}"] if said else []
    return lines


def record(attempt, workers, verdict, exits, began, seconds, then):
    """Gives an attempt's entry of launch.json.

    Args:
        attempt: its number, from 0.
        workers: the `Worker`s that it was started with.
        verdict: its `Verdict`.
        exits: its `Exit`s.
        began: when, as ISO 8601.
        seconds: how long it lasted.
        then: what the launcher does next, in words.
    """
    codes = {item.worker.rank: item.code for item in exits}
    return {
        "attempt": attempt,
        "began": began,
        "seconds": round(seconds, 1),
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


def _follower(item):
    last = exception_of(item.tail) or (item.tail[-1] if item.tail else "")
    return [f"  consequence: {item.worker} {item}{': ' if last else ''}{last}"]


def _how(item):
    return "was ended by the launcher" if item.asked else str(item)


def _place(rank, report):
    if report["step"] is None:
        return f"worker {rank}: no word from it"
    stopped = ", stopped" * report["stopped"]
    return (
        f'worker {rank}: step {report["step"]}, phase "{report["phase"]}", silent for {report["silent"]:.0f} s{stopped}'
    )
