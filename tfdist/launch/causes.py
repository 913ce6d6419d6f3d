"""Finds the root cause of the end of an attempt, from how its workers ended."""

import re
import signal
from dataclasses import dataclass

from tfdist.launch.plan import Worker
from tfdist.process.errors import Cause
from tfdist.process.exits import HUNG, INTERRUPTED, MISTAKE, NOT_FINITE, PEER_LOST, STOPPED

# The errors of TensorFlow and of sockets where another worker is gone.
_PEER_WORDS = re.compile(
    r"Unavailable|AbortedError|CancelledError|DeadlineExceeded|DEADLINE_EXCEEDED|UNAVAILABLE|Connection re(set|fused)"
    r"|Socket closed|Broken ?[pP]ipe|[Cc]oordination (service|agent)|EOFError|ConnectionError"
)


# Exit code → the kind of a verdict after which a restart would end the same way.
_FINAL = {MISTAKE: "mistake", NOT_FINITE: "nan"}


@dataclass(frozen=True)
class Exit:
    """How a worker ended.

    Attributes:
        worker: a `Worker`.
        code: its exit code, -n for signal n; None: its host was lost.
        seconds: how long it ran.
        tail: its last lines; of a lost host, those of its agent's command.
        asked: whether the launcher had asked the workers to end before.
        step: the step of its last heartbeat; None without one.
        phase: the phase of its last heartbeat; None without one.
        cause: the uncaught `TfdistError` that ended it, as `errors.read_cause` returns it; None without one.
    """

    worker: Worker
    code: int | None
    seconds: float = 0.0
    tail: tuple[str, ...] = ()
    asked: bool = False
    step: int | None = None
    phase: str | None = None
    cause: Cause | None = None

    @property
    def meaning(self):
        """The exit code, or that of the uncaught `TfdistError` behind exit code 1."""
        return self.cause["exit_code"] if self.cause and self.code == 1 else self.code

    def __str__(self):
        if self.code is None:
            return "was lost with its host" if self.worker.slot.host else "was lost with its agent"
        if self.code < 0:
            return f"was killed by {signal_name(-self.code)}"
        known = {
            MISTAKE: "reported a mistake",
            STOPPED: "saved and stopped",
            PEER_LOST: "lost another worker",
            NOT_FINITE: "found a loss or a weight that is not finite",
        }
        description = known.get(self.meaning)
        return f"{description} (exit code {self.code})" if description else f"ended with exit code {self.code}"


@dataclass(frozen=True)
class Verdict:
    """The outcome of an attempt.

    Attributes:
        kind: done, stopped (a signal asked the launcher to end), preempted, mistake, nan, failure, early, hang or lost.
        code: the exit code for a shell.
        cause: the cause in one line.
        roots: the ranks of the workers that caused it.
    """

    kind: str
    code: int = 0
    cause: str = ""
    roots: tuple[int, ...] = ()


def judge(exits, asked=None, stuck=None):
    """Returns the `Verdict` on an attempt: its root cause.

    Args:
        exits: `Exit`s in the order in which they came.
        asked: the signal that asked the launcher to end, or None.
        stuck: the `StuckWorker` because of which the launcher ended all workers, or None.
    """
    if stuck is not None:
        if (leaver := next(_early_leavers(exits), None)) is not None:
            # The others waited for a worker that had already ended.
            return Verdict("early", HUNG, _describe_early(leaver), (leaver.worker.rank,))
        return Verdict("hang", HUNG, _describe_stuck(stuck, exits), (stuck.rank,))
    own = [item for item in exits if not item.asked and item.code != 0]
    root = next((item for item in own if not _is_consequence(item)), own[0] if own else None)
    if (root is None or root.meaning == PEER_LOST) and any(item.code is None for item in exits):
        # A host that did not answer the request to end is the one that the others lost.
        root = next(item for item in exits if item.code is None)
    if asked is not None and (root is None or root.code in (STOPPED, INTERRUPTED, -asked)):
        return Verdict("stopped", _stop_code(exits, asked), f"stopped by {signal_name(asked)}")
    return _judge_root(exits, own, root) if root else Verdict("done")


def shell_code(code):
    """Returns the exit code of a shell: 128 + n for signal n."""
    return 128 - code if code < 0 else code


def stop_code(asked):
    """Returns the exit code of a launcher that a signal ended while no worker ran."""
    return INTERRUPTED if asked == signal.SIGINT else STOPPED


def signal_name(number):
    """Returns the name of a signal, such as SIGKILL for 9."""
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def exception_of(tail):
    """Returns the last line of the last traceback in a worker's last lines, or None."""
    found = None
    for place, line in enumerate(tail):
        if line.startswith("Traceback (most recent call last)"):
            rest = (later for later in tail[place + 1 :] if later and not later.startswith((" ", "|", "+")))
            found = next(rest, found)
    pattern = r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit)(: .*)?"
    return found or next((line for line in reversed(tail) if re.fullmatch(pattern, line)), None)


def _describe_stuck(stuck, exits):
    worker = next((item.worker for item in exits if item.worker.rank == stuck.rank), f"worker {stuck.rank}")
    state = "is stopped (SIGSTOP, or a debugger)" if stuck.stopped else "is stuck"
    if stuck.step is None:
        return f"{worker} {state}: it has sent no heartbeat"
    return f'{worker} {state}: no heartbeat for {stuck.silent:.0f} s after step {stuck.step}, in phase "{stuck.phase}"'


def _describe_early(leaver):
    return f"{leaver.worker} ended with exit code 0 while others were running{_at(leaver)}: too early"


def _early_leavers(exits):
    """Yields the workers that ended by themselves before their phase "end"."""
    return (item for item in exits if item.code == 0 and not item.asked and item.phase not in (None, "end"))


def _judge_root(exits, own, root):
    if root.code is None:
        return _judge_lost(exits, root)
    if (leaver := _find_early_leaver(exits, root)) is not None:
        return Verdict("early", shell_code(root.code), _describe_early(leaver), (leaver.worker.rank,))
    if root.code == STOPPED:
        return Verdict("preempted", STOPPED, f"{root.worker} {root}: it asks for a restart")
    if root.meaning in _FINAL:
        root = min((item for item in own if item.meaning == root.meaning), key=lambda item: item.worker.rank)
        at = _at(root) if root.cause else ""
        return Verdict(_FINAL[root.meaning], root.meaning, f"{root.worker} {root}{at}", (root.worker.rank,))
    alone = "; no other worker failed before" if root.meaning == PEER_LOST else ""
    cause = f"{root.worker} {root} after {root.seconds:.0f} s{_at(root)}{alone}"
    return Verdict("failure", shell_code(root.code), cause, (root.worker.rank,))


def _judge_lost(exits, root):
    lost = [item for item in exits if item.code is None and item.worker.slot.host == root.worker.slot.host]
    where = f"host {root.worker.slot.host}" if root.worker.slot.host else "the agent of this machine"
    ranks = ", ".join(str(item.worker.rank) for item in lost)
    said = f": {root.tail[-1]}" if root.tail else ""
    lost_ranks = tuple(item.worker.rank for item in exits if item.code is None)
    return Verdict("lost", 255, f"{where} was lost, with worker {ranks}{said}", lost_ranks)


def _is_consequence(item):
    """Returns whether an exit looks like the consequence of another."""
    if item.meaning in (None, STOPPED, *_FINAL):
        return False
    if item.meaning == PEER_LOST:
        return True
    by_itself = item.code < 0 and item.code != -signal.SIGABRT
    return not by_itself and any(_PEER_WORDS.search(line) for line in item.tail[-15:])


def _find_early_leaver(exits, root):
    if root.meaning in (STOPPED, *_FINAL):
        return None
    before = [item for item in exits[: exits.index(root)] if item.code == 0 and not item.asked]
    # A worker in phase "end" has not left early, unless nothing else explains the failures of the others.
    early = [item for item in before if item.phase != "end" or root.meaning == PEER_LOST]
    by_itself = root.code < 0 and root.code != -signal.SIGABRT
    if _is_consequence(root):
        return next(iter(early), None)
    return None if by_itself else next(_early_leavers(early), None)


def _stop_code(exits, asked):
    codes = [item.code for item in exits] or [stop_code(asked)]
    if STOPPED in codes:
        return STOPPED
    if INTERRUPTED in codes or -signal.SIGINT in codes:
        return INTERRUPTED
    failed = [code for code in codes if code]
    own = [code for code in failed if code != PEER_LOST]
    return shell_code((own or failed or [0])[0])


def _at(item):
    return "" if item.step is None else f', at step {item.step} in phase "{item.phase}"'
