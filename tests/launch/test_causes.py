"""Root cause and consequences are found from how the workers ended."""

import signal

import pytest

from tfdist.launch.causes import Exit, exception_of, judge, signal_name
from tfdist.launch.plan import Slot, Worker
from tfdist.launch.stuck import find_stuck, is_hung
from tfdist.launch.summary import record, summarize


def ended(rank, code, tail="", host=None, **more):
    worker = Worker(rank, Slot(rank, host, 0), {}, ("x.py",), f"/logs/worker-{rank}.log")
    return Exit(worker, code, 3.0, tuple(filter(None, tail.split("\n"))), **more)


def found(*exits, **more):
    verdict = judge(exits, **more)
    return verdict.kind, verdict.roots, verdict.code


REFUSED = {"error": "tfdist.checkpoints.checkpoint.CheckpointError", "exit_code": 2}
NAN = {"error": "tfdist.process.errors.NotFiniteError", "exit_code": 77}
LATE = {"error": "tfdist.cluster.rendezvous.messages.RendezvousError", "exit_code": 76}
LOST_PEER = "tensorflow.python.framework.errors_impl.UnavailableError: Socket closed"


@pytest.mark.parametrize(
    ("exits", "verdict"),
    [
        ([ended(1, 0), ended(0, 0)], ("done", (), 0)),
        ([ended(1, 3), ended(0, 4)], ("failure", (1,), 3)),
        ([ended(0, 76), ended(1, -9)], ("failure", (1,), 137)),
        ([ended(0, 1, LOST_PEER), ended(1, 5)], ("failure", (1,), 5)),
        ([ended(0, -6, LOST_PEER), ended(1, -11)], ("failure", (1,), 139)),
        # A signal from elsewhere is never a consequence, whatever the log says.
        ([ended(0, -9, LOST_PEER), ended(1, 5)], ("failure", (0,), 137)),
        ([ended(0, 76), ended(1, 76)], ("failure", (0,), 76)),
        # Stopped by the launcher: a consequence, however it looks.
        ([ended(0, 76), ended(1, -15, asked=True)], ("failure", (0,), 76)),
        ([ended(1, 2), ended(0, 2)], ("mistake", (0,), 2)),
        ([ended(0, 76), ended(1, 2)], ("mistake", (1,), 2)),
        # All workers stop alike, and a restart would end the same way.
        ([ended(1, 77), ended(0, 77)], ("nan", (0,), 77)),
        ([ended(1, 1, cause=NAN), ended(0, 76)], ("nan", (1,), 77)),
        # In the user's own script, the uncaught error shows that a restart does not help.
        ([ended(1, 1, cause=REFUSED), ended(0, 76)], ("mistake", (1,), 2)),
        ([ended(1, 1, cause=LATE), ended(0, 1, "ValueError: x")], ("failure", (0,), 1)),
        # That error has ended a worker only if its exit code is Python's own 1.
        ([ended(1, -9, cause=REFUSED), ended(0, 76)], ("failure", (1,), 137)),
        ([ended(1, 75), ended(0, 75)], ("preempted", (), 75)),
        ([ended(0, 76), ended(1, 75)], ("preempted", (), 75)),
        ([ended(1, 1), ended(0, 75)], ("failure", (1,), 1)),
        ([ended(0, None, host="a"), ended(1, 76, host="b")], ("lost", (0,), 255)),
        # The host that did not answer when all were asked to end.
        ([ended(1, 76, host="b"), ended(0, None, host="a", asked=True)], ("lost", (0,), 255)),
    ],
)
def test_promise_20_the_root_cause_is_found_first(exits, verdict):
    assert found(*exits) == verdict


@pytest.mark.parametrize(
    ("exits", "verdict"),
    [
        ([ended(0, 0, phase="steps", step=3), ended(1, 76)], ("early", (0,), 76)),
        ([ended(0, 0), ended(1, 1, LOST_PEER)], ("early", (0,), 1)),
        ([ended(0, 0, phase="steps", step=3), ended(1, 1, "ValueError: x")], ("early", (0,), 1)),
        # Without heartbeats, the worker's own error is the cause.
        ([ended(0, 0), ended(1, 1, "ValueError: x")], ("failure", (1,), 1)),
        ([ended(0, 0, phase="end", step=9), ended(1, 1, "ValueError: x")], ("failure", (1,), 1)),
        ([ended(0, 0, phase="end", step=9), ended(1, 76)], ("early", (0,), 76)),
        ([ended(0, 0, phase="steps", step=3), ended(1, -9)], ("failure", (1,), 137)),
    ],
)
def test_promise_21_a_worker_that_left_too_early_is_the_root_cause_of_what_follows(exits, verdict):
    assert found(*exits) == verdict


def test_promise_21_a_worker_that_waits_for_an_early_leaver_is_not_stuck():
    stuck = find_stuck({0: {"phase": "vote", "step": 8, "silent": 11.0, "stopped": False}})
    waited = ended(0, -9, asked=True)
    assert found(ended(1, 0, phase="vote", step=8), waited, stuck=stuck) == ("early", (1,), 124)
    # A worker in phase "end" did what it should.
    assert found(ended(1, 0, phase="end", step=8), waited, stuck=stuck) == ("hang", (0,), 124)


@pytest.mark.parametrize(
    ("exits", "asked", "verdict"),
    [
        ([ended(0, 75, asked=True), ended(1, 76, asked=True)], signal.SIGTERM, ("stopped", (), 75)),
        ([ended(0, 130, asked=True)], signal.SIGINT, ("stopped", (), 130)),
        ([ended(0, -2, asked=True)], signal.SIGINT, ("stopped", (), 130)),
        ([ended(0, -15, asked=True)], signal.SIGTERM, ("stopped", (), 143)),
        ([ended(0, -15), ended(1, -15)], signal.SIGTERM, ("stopped", (), 143)),
        ([ended(0, 0, asked=True), ended(1, -9, asked=True)], signal.SIGTERM, ("stopped", (), 137)),
        ([ended(0, 0, asked=True)], signal.SIGTERM, ("stopped", (), 0)),
        ([ended(0, 5), ended(1, 75, asked=True)], signal.SIGTERM, ("failure", (0,), 5)),
        ([], signal.SIGINT, ("stopped", (), 130)),
        ([], signal.SIGTERM, ("stopped", (), 75)),
    ],
)
def test_promise_22_a_launcher_that_was_asked_to_end_reports_how_the_workers_ended(exits, asked, verdict):
    assert found(*exits, asked=asked) == verdict


def beat(step=5, phase="steps", silent=9.0, stopped=False):
    return {"step": step, "phase": phase, "silent": silent, "stopped": stopped}


NO_BEAT = beat(step=None, phase=None, silent=None)


@pytest.mark.parametrize(
    ("reports", "rank"),
    [
        ({0: beat(), 1: beat(stopped=True), 2: beat(step=3)}, 1),
        ({0: beat(), 1: beat(step=3)}, 1),
        ({0: beat(), 1: beat(phase="save")}, 1),
        ({0: beat(phase="vote"), 1: beat(phase="steps")}, 1),
        ({0: beat(silent=8.9), 1: beat(silent=9.0)}, 1),
        # A worker with a recent heartbeat is not the one that all wait for.
        ({0: beat(step=3, silent=0.1), 1: beat()}, 1),
        ({0: beat(phase="start", step=0), 1: NO_BEAT}, 1),
        # Only the chief sends heartbeats.
        ({0: beat(), 1: NO_BEAT}, 0),
        ({0: beat(phase="end", step=1), 1: beat(step=9)}, 1),
    ],
)
def test_promise_23_the_stuck_worker_is_the_one_that_the_others_wait_for(reports, rank):
    assert find_stuck(reports).rank == rank


def test_promise_23_the_time_limit_depends_on_the_phase():
    assert is_hung({0: beat(silent=11)}, 10, 100)
    assert not is_hung({0: beat(silent=9)}, 10, 100)
    assert not is_hung({0: beat(phase="start", silent=99)}, 10, 100)
    assert is_hung({0: beat(phase="start", silent=101)}, 10, 100)
    assert not is_hung({0: beat(phase="end", silent=999), 1: NO_BEAT}, 10, 100)
    assert not is_hung({0: beat(silent=999)}, 0, 100)


TAIL = """epoch 1
Traceback (most recent call last):
  File "x.py", line 1
KeyError: 'a'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "x.py", line 3
my.module.MyError: no

last words"""


def test_the_exception_is_that_of_the_last_traceback():
    assert exception_of(tuple(TAIL.split("\n"))) == "my.module.MyError: no"
    assert exception_of(("cut off", "ValueError: x", "bye")) == "ValueError: x"
    assert exception_of(("no", "trouble: here")) is None


def test_promise_20_the_summary_names_cause_lines_exception_and_consequences():
    exits = [ended(1, 1, TAIL, host="b", step=50, phase="steps"), ended(0, 76), ended(2, -15, asked=True), ended(3, 0)]
    assert summarize(judge(exits), exits) == [
        'root cause: worker 1 on b ended with exit code 1 after 3 s, at step 50 in phase "steps".',
        "  exception: my.module.MyError: no",
        "  its last lines (/logs/worker-1.log):",
        *[f"  | {line}" for line in filter(None, TAIL.split("\n"))],
        "  consequences: worker 0 lost another worker (exit code 76); worker 2 was ended by the launcher",
    ]


def test_the_summary_shows_a_dozen_lines_and_cuts_long_ones():
    exits = [ended(0, 1, "\n".join(["early"] * 5 + ["x" * 900] * 12))]
    assert summarize(judge(exits), exits)[2:] == ["  | " + "x" * 300 + " …"] * 12


def test_promise_22_workers_that_did_not_end_in_time_are_named():
    exits = [ended(0, 75, asked=True), ended(1, -9, asked=True)]
    assert summarize(judge(exits, signal.SIGTERM), exits) == [
        "ended: stopped by SIGTERM.",
        "  worker 1 was killed by SIGKILL",
    ]


def test_promise_21_the_summary_of_an_early_leaver_names_the_consequences():
    exits = [ended(0, 0, step=3, phase="steps"), ended(1, 1, LOST_PEER)]
    assert summarize(judge(exits), exits) == [
        'root cause: worker 0 ended with exit code 0 while others were running, at step 3 in phase "steps": too early.',
        f"  consequence: worker 1 ended with exit code 1: {LOST_PEER}",
    ]


def test_an_attempt_is_recorded_by_rank():
    exits = [ended(1, -9), ended(0, 76)]
    entry = record(2, [item.worker for item in reversed(exits)], judge(exits), exits, "2026-01-01", 1.23, 99.5, "end")
    assert entry == {
        "attempt": 2,
        "began": "2026-01-01",
        "seconds": 1.2,
        "failed": 99.5,
        "workers": 2,
        "slots": ["slot 0", "slot 1"],
        "kind": "failure",
        "cause": "worker 1 was killed by SIGKILL after 3 s",
        "roots": [1],
        "exit_codes": [76, 137],
        "then": "end",
    }


def test_signals_have_names():
    assert (signal_name(9), signal_name(40)) == ("SIGKILL", "signal 40")
