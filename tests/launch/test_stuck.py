"""Stuck workers are found and named."""

import pytest

QUICK = ("--workers=2", "--hang_seconds=1.5", "--first_step_seconds=1.5", "--grace=5", "--backoff_seconds=0")


def test_promise_23_a_stopped_worker_is_named_and_every_stack_is_in_the_logs(launch, script, log, attempts):
    worker = script("""
import faulthandler
faulthandler.register(signal.SIGQUIT, all_threads=True)
heartbeat = make_heartbeat(os.environ, rank)
def wait_in_a_collective():
    time.sleep(100)
if attempt == 0:
    heartbeat.beat("steps", step=80)
    make_faults(os.environ)(rank).inject("call", 80)
    wait_in_a_collective()
heartbeat.beat("end")
""")
    ended = launch(*QUICK, "--max_restarts=1", "--chaos=hang:worker=1,step=80,point=call", "--", worker)
    assert ended.code == 0
    assert "root cause: worker 1 is stopped (SIGSTOP, or a debugger): no heartbeat for" in ended.err
    assert 'after step 80, in phase "steps"' in ended.err
    assert '  worker 0: step 80, phase "steps", no heartbeat for' in ended.err
    assert "in wait_in_a_collective" in log(0)
    assert [entry["kind"] for entry in attempts()] == ["hang", "done"]
    assert attempts()[0]["roots"] == [1]


def test_promise_23_a_stopped_worker_is_the_root_cause_though_others_lose_it_before_the_time_limit(
    launch, script, attempts
):
    worker = script("""
heartbeat = make_heartbeat(os.environ, rank)
heartbeat.beat("steps", step=80)
make_faults(os.environ)(rank).inject("call", 80)
time.sleep(1)
sys.exit(76)
""")
    ended = launch("--workers=2", "--chaos=hang:worker=1,step=80,point=call", "--", worker)
    assert ended.code == 124
    assert (
        "tfdist.launch: a worker is stopped, and others have lost it: asking all workers for their stacks" in ended.err
    )
    assert "root cause: worker 1 is stopped (SIGSTOP, or a debugger): no heartbeat for" in ended.err
    assert [(entry["kind"], entry["roots"], entry["exit_codes"]) for entry in attempts()] == [("hang", [1], [76, 137])]


def test_promise_23_a_worker_that_hangs_is_the_one_with_fewer_steps(launch, script, attempts):
    worker = script("""
heartbeat = make_heartbeat(os.environ, rank)
if rank == 1:
    heartbeat.beat("end")
    time.sleep(100)
for step in range(5 if rank == 0 else 3):
    heartbeat.beat("steps", step=step)
    time.sleep(0.1)
time.sleep(100)
""")
    ended = launch("--workers=3", *QUICK[1:], "--", worker)
    assert ended.code == 124
    assert "worker 2 is stuck: no heartbeat for" in ended.err and 'after step 2, in phase "steps"' in ended.err
    # Two workers do not handle SIGQUIT and end by it, which makes no difference.
    assert attempts()[0]["kind"] == "hang"


def test_promise_23_time_without_a_heartbeat_is_allowed_where_it_is_expected(launch, script):
    worker = script("""
if rank == 0:
    heartbeat = make_heartbeat(os.environ, rank)
    heartbeat.beat("start")
    time.sleep(2)
    heartbeat.beat("end")
time.sleep(2)
""")
    assert launch("--workers=2", "--hang_seconds=0.5", "--first_step_seconds=9", "--", worker).code == 0


@pytest.mark.parametrize("flag", ["--hang_seconds=0"])
def test_without_a_limit_no_worker_is_stuck(launch, script, flag):
    worker = script("make_heartbeat(os.environ, rank).beat('steps', step=1); time.sleep(2)")
    assert launch("--workers=1", flag, "--", worker).code == 0
