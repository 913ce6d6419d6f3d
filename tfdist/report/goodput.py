"""The lines of a run → where its wall clock went, and what each restart cost. All functions are pure."""

import collections
import dataclasses
import functools

STEPS, INPUT, CHECKPOINT, VALIDATION, START, REPEATED, RESTART, PAUSE = (
    *("steps that count", "input", "checkpoint", "validation", "start", "repeated steps", "restart", "pause"),
)
KINDS = (STEPS, INPUT, CHECKPOINT, VALIDATION, START, REPEATED, RESTART)
_TOO_LARGE = 1e300


@dataclasses.dataclass
class Piece:
    """A part of the wall clock.

    Attributes:
        kind: one of `KINDS`, or `PAUSE`.
        begin, end: Unix seconds.
        epoch: a number for each epoch of each process.
    """

    kind: str
    begin: float
    end: float
    epoch: int

    @property
    def seconds(self):
        """How long it was."""
        return self.end - self.begin


@dataclasses.dataclass(frozen=True)
class Failure:
    """A failure after which the run was started again.

    Attributes:
        time: when, in Unix seconds.
        cause: why, in words.
        reached, resumed: the last step before it that a line names, and the step from which the run went on.
        repeated, restart: the seconds lost by steps that were done again, and until training went on.
    """

    time: float
    cause: str
    reached: int
    resumed: int
    repeated: float
    restart: float


def number(line, key):
    """Returns the finite number that a line has under a key, or None; also for one whose sums would overflow."""
    value = line.get(key)
    # JSON has no other numbers, and a bool is none.
    return value if type(value) in (int, float) and abs(value) < _TOO_LARGE else None


class Account:
    """Where the wall clock of a run went.

    Args:
        lines: the lines of metrics.jsonl in their order; those without a time tell nothing here.

    Attributes:
        pieces: the `Piece`s, one after the other; none if no line says when the run started.
        failures: the `Failure`s.
    """

    def __init__(self, lines):
        self.pieces, self.failures = [], []
        # (step, number of pieces so far, whether it is a checkpoint) of each line.
        self._marks = []
        # Number of an epoch → its seconds of waiting for input, which are spread over its steps.
        self._inputs = {}
        self._epoch, self._attempt, self._end = 0, 0, None
        for line in lines:
            if number(line, "time") is not None and (self.pieces or line.get("event") == "start"):
                self._add(line, line["time"], number(line, "step") or 0)

    @functools.cached_property
    def seconds(self):
        """Kind → seconds, of all `KINDS`; their sum is the wall clock without pauses."""
        spent, whole, left = dict.fromkeys((*KINDS, PAUSE), 0.0), collections.Counter(), collections.Counter()
        for piece in self.pieces:
            spent[piece.kind] += piece.seconds
            whole[piece.epoch] += piece.seconds * (piece.kind in (STEPS, REPEATED))
            left[piece.epoch] += piece.seconds * (piece.kind == STEPS)
        for epoch, waited in self._inputs.items():
            # Of an epoch that was repeated in part, the same part. A damaged line may claim more than there is.
            part = min(waited * left[epoch] / (whole[epoch] or 1.0), spent[STEPS])
            spent[INPUT] += part
            spent[STEPS] -= part
        return {kind: spent[kind] for kind in KINDS}

    @property
    def wall(self):
        """The wall clock in seconds, without pauses."""
        return sum(self.seconds.values())

    @property
    def goodput(self):
        """The share of the wall clock that was spent on steps that count, or None."""
        return self.seconds[STEPS] / self.wall if self.wall else None

    def _add(self, line, time, step):
        event = line.get("event")
        if event == "start":
            self._start(line, time, step)
        else:
            kind, waited = _ending(line)
            self._book(STEPS, time - waited)
            self._book(kind, time)
        if event == "end":
            self._end = line
        if "epoch" in line:
            self._inputs[self._epoch] = _of_epoch(line, "input")
            self._epoch += 1
        self._marks.append((step, len(self.pieces), event == "checkpoint"))

    def _start(self, line, time, step):
        began, failed = (min(number(line, key) or time, time) for key in ("began", "failed"))
        # Attempts of the launcher that ended before they trained left no line.
        lost = (number(line, "attempt") or 0) - self._attempt - 1 if self.pieces else 0
        if not self.pieces:
            first = failed if "cause" in line else began
            self.pieces.append(Piece(START, first, first, self._epoch))
        elif self._end is None and lost <= 0 and "failed" in line:
            self._book(STEPS, failed)
        repeated, stopped = self._repeat(step), self.pieces[-1].end
        if "cause" in line or (self._marks and (self._end or {}).get("reason") not in ("finished", "stopped")):
            self._book(RESTART, time)
            cause = line.get("cause") or (self._end or {}).get("cause") or "unknown: the process wrote no last line"
            cause = f"{cause}" + f" (the last of {lost + 1:.0f} failures)" * (lost > 0)
            reached = max((mark[0] for mark in self._marks), default=0)
            self.failures.append(Failure(stopped, cause, reached, step, repeated, self.pieces[-1].seconds))
        else:
            # Started by hand: the run was not meant to run in between.
            self._book(PAUSE, began)
            self._book(START, time)
        self._epoch, self._attempt, self._end = self._epoch + 1, number(line, "attempt") or 0, None

    def _repeat(self, step):
        """Books what was done after the checkpoint of a step as repeated; returns those seconds."""
        saved = [mark for mark in self._marks if mark[0] == step and mark[2]]
        before = saved or [mark for mark in self._marks if mark[0] <= step] or [(0, 0, False)]
        again = [piece for piece in self.pieces[before[-1][1] :] if piece.kind in (STEPS, VALIDATION, CHECKPOINT)]
        for piece in again:
            piece.kind = REPEATED
        return sum(piece.seconds for piece in again)

    def _book(self, kind, until):
        """Books the time from the last piece until then; none if the clock of another host is behind."""
        begin = self.pieces[-1].end
        self.pieces.append(Piece(kind, begin, max(begin, until), self._epoch))


def _ending(line):
    """Returns the kind and the seconds of what a line ends: a checkpoint, or the validation of an epoch."""
    if line.get("event") == "checkpoint":
        return CHECKPOINT, max(0.0, number(line, "seconds") or 0.0)
    return VALIDATION, _of_epoch(line, "validation")


def _of_epoch(line, kind):
    """Returns the seconds of a kind that the line of an epoch has, 0 for any other line."""
    parts = line.get("seconds")
    return max(0.0, (number(parts, kind) or 0.0) if isinstance(parts, dict) else 0.0)
