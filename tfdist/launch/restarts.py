"""Decides what follows an attempt: the end, or another attempt, its slots and the wait before it."""

from dataclasses import dataclass

from tfdist.launch.plan import Slot

_FAILURES = ("failure", "early", "hang", "lost")
# After such a long attempt there is no wait, because waits are for failures at the start.
_LONG_SECONDS = 300.0
_LONGEST_BACKOFF_SECONDS = 300.0


@dataclass(frozen=True)
class Past:
    """A past attempt, with what the next decision needs.

    Attributes:
        kind: the kind of its verdict.
        slots: the numbers of the slots of the root cause.
        seconds: how long it lasted.
        gone: whether an injected fault keeps these slots away.
    """

    kind: str
    slots: tuple[int, ...]
    seconds: float
    gone: bool = False


@dataclass(frozen=True)
class Move:
    """The next attempt, or the end.

    Attributes:
        slots: the slots that take part; empty for the end.
        seconds: the wait before the attempt.
        reason: the reason in words, for the terminal and launch.json.
    """

    slots: tuple[Slot, ...]
    seconds: float
    reason: str


def next_move(config, slots, past, asked=None):
    """Returns the `Move` after an attempt.

    Args:
        config: a `LaunchConfig`.
        slots: the slots that took part in the last attempt.
        past: a `Past` for each attempt, in their order.
        asked: the signal that asked the launcher to end, or None.
    """
    last = past[-1]
    counted = sum(item.kind in _FAILURES for item in past)
    if end := _reason_to_end(config, last, counted, asked):
        return Move((), 0.0, f"end: {end}")
    wait = backoff(config, past)
    if last.kind == "preempted":
        return Move(slots, wait, f"start again in {wait:g} s, which counts as no failure")
    away = _away(past)
    kept = tuple(slot for slot in slots if slot.number not in away)
    names = ", ".join(str(slot) for slot in slots if slot not in kept)
    without = f", because {names} stays away" if names else ""
    if len(kept) < config.fewest:
        if last.gone:
            return Move((), 0.0, f"end: {names} is gone, and {_workers(len(kept))} would be fewer than {config.fewest}")
        kept, without = slots, f": without {names} there would be fewer than {config.fewest}"
    return Move(
        kept, wait, f"restart {counted} of {config.max_restarts} in {wait:g} s, with {_workers(len(kept))}{without}"
    )


def backoff(config, past):
    """Returns the seconds to wait: 0 after a long attempt, otherwise doubled with each short attempt in a row."""
    short = 0
    for item in reversed(past):
        if item.seconds >= _LONG_SECONDS:
            break
        short += 1
    if short == 0:
        return 0.0
    longest = max(config.backoff_seconds, _LONGEST_BACKOFF_SECONDS)
    return min(config.backoff_seconds * 2.0 ** min(short - 1, 30), longest)


def _reason_to_end(config, last, counted, asked):
    if last.kind == "done":
        return "all workers have ended with exit code 0"
    if asked is not None or last.kind == "stopped":
        return "a signal asked the launcher to end"
    if last.kind == "mistake":
        return "a restart does not correct a mistake"
    if last.kind == "nan":
        return "a restart would train to the same loss"
    if counted <= config.max_restarts:
        return None
    return f"all restarts are used (--max_restarts={config.max_restarts})"


def _away(past):
    """Returns the numbers of the slots to leave out of the next attempt."""
    last = past[-1]
    if last.gone or last.kind == "lost":
        return set(last.slots)
    before = past[-2] if len(past) > 1 else Past("done", (), 0.0)
    return set(last.slots) & set(before.slots) if before.kind in _FAILURES else set()


def _workers(count):
    return f"{count} worker{'s' * (count != 1)}"
