"""Where the wall clock of made runs went, against the seconds that the maker counted."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.made_runs import MadeRun, killed_run

from tfdist.report.goodput import KINDS, PAUSE, STEPS, Account


def spent(run):
    done = run.spent()
    return {kind: pytest.approx(done[kind], abs=1e-6) for kind in KINDS}


def test_each_second_of_a_run_with_two_kills_has_its_kind():
    run = killed_run()
    account = Account(run.lines)
    assert account.seconds == spent(run)
    assert account.wall == pytest.approx(run.lines[-1]["time"] - run.lines[0]["began"])
    # 30 steps of a second that count, less the input of three epochs.
    assert account.seconds[STEPS] == pytest.approx(30 - 3 * 0.5)
    assert account.goodput == pytest.approx(28.5 / account.wall)


def test_each_kill_has_its_cause_its_steps_and_its_lost_seconds():
    first, second = Account(killed_run().lines).failures
    assert first.cause == "worker 1 was killed by signal 9 (SIGKILL)"
    # Killed half a second after step 13, saved at 10; no line names the steps 11 to 13.
    assert (first.reached, first.resumed, first.repeated, first.restart) == (10, 10, 3.5, 10.0)
    assert second.cause == "worker 0 was killed by signal 9 (SIGKILL)"
    assert (second.reached, second.resumed, second.repeated, second.restart) == (25, 25, 2.5, 10.0)


@settings(deadline=None)
@given(
    parts=st.lists(st.integers(0, 17), min_size=1, max_size=8), every=st.sampled_from([5, 10]), lines=st.integers(1, 9)
)
def test_the_seconds_of_any_run_with_kills_are_those_that_were_spent(parts, every, lines):
    run = MadeRun(checkpoint_every=every)
    run.start()
    for count in parts:
        run.steps(count, every=lines)
        run.kill()
    run.steps(3, every=lines)
    run.end()
    account = Account(run.lines)
    assert account.seconds == spent(run)
    assert len(account.failures) == len(parts)


def test_a_validation_comes_last_in_its_epoch_and_is_repeated_with_it():
    run = MadeRun(checkpoint_every=7)
    run.start()
    run.steps(10)
    last = Account(run.lines).pieces[-1]
    assert (last.kind, last.begin, last.end) == ("validation", run.now - 0.25, run.now)
    run.kill()
    account = Account(run.lines)
    assert account.seconds["validation"] == 0
    # Steps 8 to 10, the validation, and half a second of the next step.
    assert account.seconds["repeated steps"] == 3.75


def test_a_run_that_goes_back_beyond_an_earlier_restart_repeats_that_too():
    run = MadeRun()
    run.start()
    run.steps(7)
    run.kill()
    before = Account(run.lines).seconds
    # The checkpoint of step 5 is damaged, so that the run goes on from the very beginning.
    start = {"event": "start", "began": run.now + 1, "time": run.now + 3, "step": 0, "cause": "it was damaged"}
    account = Account([*run.lines, start])
    assert account.seconds[STEPS] == 0
    assert account.failures[-1].repeated == pytest.approx(before[STEPS] + before["checkpoint"])
    assert account.wall == pytest.approx(run.now + 3 - run.lines[0]["began"])


@pytest.mark.parametrize(("reason", "pauses"), [("stopped", 1), ("finished", 1), ("failed", 0)])
def test_the_time_between_an_end_and_a_start_by_hand_is_not_lost(reason, pauses):
    run = MadeRun()
    run.start()
    run.steps(5)
    run.end(reason, cause="SIGTERM")
    run.now += 1000.0
    run.start()
    run.steps(5)
    account = Account(run.lines)
    assert account.seconds["repeated steps"] == 0
    assert sum(piece.kind == PAUSE and piece.seconds > 0 for piece in account.pieces) == pauses
    assert account.wall == pytest.approx(19.25 if pauses else 1019.25)
    assert [failure.cause for failure in account.failures] == ([] if pauses else ["SIGTERM"])


def test_steps_that_a_start_by_hand_does_again_are_repeated_steps():
    run = MadeRun()
    run.start()
    run.steps(9)
    run.end("stopped")
    start = {"event": "start", "began": run.now, "time": run.now + 2, "step": 5}
    account = Account([*run.lines, start])
    assert (account.seconds["repeated steps"], account.seconds["restart"], account.failures) == (4.0, 0.0, [])


def test_a_kill_that_no_launcher_saw_ends_with_the_last_line():
    run = MadeRun()
    run.start()
    run.steps(6, every=6)
    last = run.lines[-1]["time"]
    run.lines.append({"event": "start", "began": last + 50, "time": last + 54, "step": 5, "attempt": 0})
    (failure,) = Account(run.lines).failures
    assert failure.cause == "unknown: the process wrote no last line"
    assert (failure.time, failure.restart, failure.repeated) == (last, 54.0, 1.0)


def test_a_failure_before_the_first_training_is_a_restart_too():
    start = {"event": "start", "began": 106.0, "time": 110.0, "step": 0, "attempt": 1}
    account = Account([start | {"cause": "worker 1 was lost", "failed": 100.0}, {"event": "end", "time": 120.0}])
    (failure,) = account.failures
    assert (failure.time, failure.cause, failure.restart, failure.repeated) == (100.0, "worker 1 was lost", 10.0, 0.0)
    assert (account.seconds[STEPS], account.wall) == (10.0, 20.0)


def test_an_attempt_that_never_trained_is_counted_and_its_time_is_that_of_a_restart():
    run = MadeRun()
    run.start()
    run.steps(5)
    last = run.lines[-1]["time"]
    about = {"attempt": 2, "cause": "worker 0 was lost", "failed": last + 40}
    run.lines.append({"event": "start", "began": last + 50, "time": last + 54, "step": 5, **about})
    (failure,) = Account(run.lines).failures
    assert failure.cause == "worker 0 was lost (the last of 2 failures)"
    assert (failure.time, failure.restart, failure.repeated) == (last, 54.0, 0.0)


def test_lines_without_a_time_and_clocks_that_go_back_do_no_harm():
    assert Account([{"epoch": 1, "loss": 0.5}, {"event": "start"}, {"step": 3, "time": 10.0}]).goodput is None
    run = killed_run()
    greedy = [line | {"seconds": {"input": 1e9, "validation": -5}} if "epoch" in line else line for line in run.lines]
    assert {kind: seconds < 0 for kind, seconds in Account(greedy).seconds.items()} == dict.fromkeys(KINDS, False)
    late = [{**line, "time": line["time"] - 3} if "epoch" in line else line for line in run.lines]
    account = Account(late)
    assert all(seconds >= 0 for seconds in account.seconds.values())
    assert account.wall == pytest.approx(Account(run.lines).wall)
