"""The decision after an attempt, made without starting anything."""

import signal

import pytest

from tfdist.launch.config import LaunchConfig
from tfdist.launch.plan import make_slots
from tfdist.launch.restarts import Past, backoff, next_move


def move(*past, asked=None, slots=(0, 1, 2), **more):
    config = LaunchConfig(("x.py",), workers=3, backoff_seconds=1, **({"max_restarts": 2} | more))
    present = tuple(slot for slot in make_slots(config) if slot.number in slots)
    result = next_move(config, present, past, asked)
    return "".join(str(slot.number) for slot in result.slots), result.seconds, result.reason


def failed(*slots, kind="failure", **more):
    return Past(kind, slots, 1.0, **more)


DONE, SAVED, MISTAKE = Past("done", (), 1.0), Past("preempted", (), 1.0), Past("mistake", (0,), 1.0)


@pytest.mark.parametrize(
    ("past", "more", "slots", "reason"),
    [
        ([DONE], {}, "", "end: all workers have ended with exit code 0"),
        ([MISTAKE], {}, "", "end: a restart does not correct a mistake"),
        ([Past("nan", (0,), 1.0)], {}, "", "end: a restart would train to the same loss"),
        ([failed(1)], {"max_restarts": 0}, "", "end: all restarts are used (--max_restarts=0)"),
        ([failed(1)], {}, "012", "restart 1 of 2 in 1 s, with 3 workers"),
        ([failed(1)], {"asked": signal.SIGTERM}, "", "end: a signal asked the launcher to end"),
        ([failed(1), failed(2), failed(1)], {}, "", "end: all restarts are used (--max_restarts=2)"),
        ([SAVED], {"max_restarts": 0}, "012", "start again in 1 s, which counts as no failure"),
        ([SAVED, SAVED, failed(1)], {}, "012", "restart 1 of 2 in 4 s, with 3 workers"),
    ],
)
def test_a_failure_counts_and_a_preemption_does_not(past, more, slots, reason):
    assert move(*past, **more)[::2] == (slots, reason)


@pytest.mark.parametrize(
    ("past", "least", "slots", "reason"),
    [
        # One failure may be chance; after two in a row, the slot stays away.
        ([failed(1)], 2, "012", "with 3 workers"),
        ([failed(1), failed(1)], 2, "02", "with 2 workers, because slot 1 stays away"),
        ([failed(1), failed(2)], 2, "012", "with 3 workers"),
        ([failed(1), SAVED, failed(1)], 2, "012", "with 3 workers"),
        ([failed(1, kind="hang"), failed(1)], 2, "02", "slot 1 stays away"),
        ([failed(1), failed(1)], 3, "012", "with 3 workers: without slot 1 there would be fewer than 3"),
        ([failed(1, kind="lost")], 2, "02", "slot 1 stays away"),
        ([failed(0, 1, 2, kind="lost")], 1, "012", "with 3 workers: without slot 0, slot 1, slot 2"),
        ([failed(2, gone=True)], 2, "01", "slot 2 stays away"),
        ([failed(2, gone=True)], 3, "", "end: slot 2 is gone, and 2 workers would be fewer than 3"),
    ],
)
def test_a_slot_that_stays_away_is_left_out_but_never_below_the_least(past, least, slots, reason):
    found = move(*past, min_workers=least)
    assert found[0] == slots and reason in found[2]


def test_waits_double_up_to_a_bound_and_begin_anew_after_a_long_run():
    config = LaunchConfig(("x.py",), workers=3, backoff_seconds=2)
    assert [backoff(config, [failed(1)] * count) for count in (1, 2, 3, 20)] == [2, 4, 8, 300]
    assert backoff(config, [failed(1), failed(1), Past("failure", (1,), 3600.0)]) == 0
    assert backoff(config, [failed(1), Past("failure", (1,), 3600.0), failed(1)]) == 2
    assert backoff(LaunchConfig(("x.py",), workers=3, backoff_seconds=0), [failed(1)] * 9) == 0
