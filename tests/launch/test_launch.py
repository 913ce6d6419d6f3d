"""Real workers, started on this machine: logs, exit codes, root causes and restarts."""

import datetime
import os
import re

import pytest

QUICK = ("--workers=2", "--backoff_seconds=0.05", "--grace=5")


def test_promise_21_workers_that_finish_at_different_times_end_well(launch, script, log, attempts, tmp_path):
    worker = script("""
print("hello from", rank, "of", size, *sys.argv[1:], flush=True)
if rank == 1:
    pathlib.Path("first").touch()
    sys.exit(0)
wait_for("first")
time.sleep(1.5)
print("bye", file=sys.stderr)
""")
    ended = launch("--workers=2", "--tee=all", "--", worker, "an argument")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert sorted(lines[:2]) == ["[0] hello from 0 of 2 an argument", "[1] hello from 1 of 2 an argument"]
    # Standard error is in the log too, in order.
    assert lines[2:] == ["[0] bye"]
    assert ended.err.splitlines() == [
        f"tfdist.launch: 2 workers, attempt 0; logs in {tmp_path}/runs/launch-1",
        "tfdist.launch: worker 1 has ended with exit code 0; 1 still running",
        "tfdist.launch: all workers have ended with exit code 0",
    ]
    header = r"==== worker 0, attempt 0, \d{4}-\d\d-\d\d \d\d:\d\d:\d\d, \S+: \S+python\S* \S+worker.py 'an argument'\n"
    assert re.fullmatch(header + "hello from 0 of 2 an argument\nbye\n", log(0))
    (entry,) = attempts()
    assert (entry["kind"], entry["exit_codes"], entry["workers"]) == ("done", [0, 0], 2)


def test_the_command_that_shows_the_run_is_printed_once_where_the_run_has_a_folder(launch, script):
    ended = launch("--workers=1", "--", script("pass"), "--run_dir=runs/a")
    assert ended.code == 0
    first, second, *_ = ended.err.splitlines()
    assert first == "tfdist.launch: watch the run: python -m tfdist.report --live runs/a"
    assert second.startswith("tfdist.launch: 1 worker, attempt 0; logs in ")
    assert ended.err.count("watch the run") == 1


def test_promise_20_the_others_are_stopped_and_the_first_death_is_named(launch, script, attempts):
    worker = script("""
print("at work", flush=True)
if rank == 1:
    raise LookupError("lost it")
time.sleep(60)
""")
    ended = launch("--workers=3", "--", worker)
    assert ended.code == 1
    assert "root cause: worker 1 ended with exit code 1 after" in ended.err
    assert "  exception: LookupError: lost it\n" in ended.err
    assert "  | at work\n" in ended.err and "runs/launch-1/worker-1.log" in ended.err
    assert "consequences: worker" in ended.err and ended.err.count("was ended by the launcher") == 2
    assert ended.out == "[0] at work\n"
    assert attempts()[0]["exit_codes"] == [143, 1, 143]
    assert attempts()[0]["seconds"] < 10


def test_after_a_failure_waiting_workers_are_killed_and_saving_workers_may_end(launch, script, attempts):
    worker = script("""
signal.signal(signal.SIGTERM, lambda *_: None)
make_heartbeat(os.environ, rank).beat(["steps", "start", "save"][rank])
pathlib.Path(f"ready-{rank}").touch()
for other in range(size):
    wait_for(f"ready-{other}")
if rank == 1:
    raise LookupError("lost it")
if rank == 2:
    time.sleep(2.5)
    sys.exit(5)
time.sleep(60)
""")
    ended = launch("--workers=3", "--", worker)
    assert "root cause: worker 1 ended with exit code 1 after" in ended.err
    assert attempts()[0]["exit_codes"] == [137, 1, 5]


def test_promise_20_a_signal_is_named_and_peers_that_lost_the_worker_are_consequences(launch, script, attempts):
    worker = script("""
if rank == 1:
    wait_for("pid-0")
    make_faults(os.environ)(rank).inject("step", 7)
wait_for("pid-1")
try:
    while True:
        os.kill(int(pathlib.Path("pid-1").read_text() or os.getpid()), 0)
        time.sleep(0.02)
except ProcessLookupError:
    sys.exit(76)
""")
    ended = launch(*QUICK, "--chaos=kill:worker=1,step=7", "--", worker)
    assert ended.code == 137
    assert "root cause: worker 1 was killed by SIGKILL" in ended.err
    assert "consequences: worker 0 lost another worker (exit code 76)" in ended.err
    assert "injected fault after step 7" in ended.err
    assert attempts()[0]["exit_codes"] == [76, 137]


def test_the_group_restarts_with_new_ports_and_a_reason_and_logs_go_on(launch, script, attempts, log):
    worker = script("""
import ast
made = json.loads(pathlib.Path(os.environ["TFDIST_RESTARTS_FILE"]).read_text())
print("attempt", attempt, "after", [entry["cause"].split(" after")[0] for entry in made])
sys.stdout.flush()
with open(f"ports-{rank}", "a") as file:
    print(json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"], file=file)
if attempt < 2 and rank == attempt:
    os._exit(3 + attempt)
if attempt < 2:
    time.sleep(60)
print("no end of line", end="")
""")
    ended = launch(*QUICK, "--max_restarts=2", "--", worker)
    assert ended.code == 0
    assert [entry["then"] for entry in attempts()] == [
        "restart 1 of 2 in 0.05 s, with 2 workers",
        "restart 2 of 2 in 0.1 s, with 2 workers",
        "end: all workers have ended with exit code 0",
    ]
    began = [datetime.datetime.fromisoformat(entry["began"]).timestamp() for entry in attempts()]
    failed = [entry["failed"] for entry in attempts()]
    # The beginnings are of whole seconds.
    assert began[0] <= failed[0] < began[1] + 1 <= failed[1] + 1 < began[2] + 2
    assert failed[2] is None
    causes = ["worker 0 ended with exit code 3", "worker 1 ended with exit code 4"]
    assert log(1).count("==== worker 1, attempt ") == 3
    assert "attempt 0 after []\n\n==== worker 1, attempt 1" in log(1)
    assert f"attempt 2 after {causes}\nno end of line" in log(1)
    assert log(0).endswith("no end of line") and "[0] no end of line\n" in ended.out


def test_promise_21_exit_code_0_too_early_is_a_failure(launch, script, attempts):
    worker = script("""
heartbeat = make_heartbeat(os.environ, rank)
heartbeat.beat("steps", step=4)
if attempt == 1:
    heartbeat.beat("end")
elif rank == 0:
    make_faults(os.environ)(rank).inject("step", 4)
else:
    wait_for("pid-0")
    time.sleep(0.5)
    print("ConnectionResetError: Socket closed")
    sys.exit(1)
""")
    ended = launch(*QUICK, "--max_restarts=1", "--chaos=exit:worker=0,step=4", "--", worker)
    assert ended.code == 0
    assert (
        'worker 0 ended with exit code 0 while others were running, at step 4 in phase "steps": too early' in ended.err
    )
    assert "consequence: worker 1 ended with exit code 1: ConnectionResetError: Socket closed" in ended.err
    assert [entry["kind"] for entry in attempts()] == ["early", "done"]


def test_promise_22_workers_that_saved_and_stopped_start_again_uncounted(launch, script, attempts):
    worker = script("sys.exit(75 if attempt < 2 else 0)")
    ended = launch(*QUICK, "--", worker)
    assert ended.code == 0
    assert [entry["kind"] for entry in attempts()] == ["preempted", "preempted", "done"]
    assert attempts()[0]["then"] == "start again in 0.05 s, which counts as no failure"


def test_a_mistake_is_shown_once_and_never_restarted(launch, script, attempts):
    worker = script("print('script: --epochs=-1: use 1 or more.', file=sys.stderr); sys.exit(2)")
    ended = launch(*QUICK, "--max_restarts=3", "--quiet", "--", worker)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.count("use 1 or more") == 1
    assert re.match(r"tfdist.launch: mistake: worker [01] reported a mistake \(exit code 2\)\.\n", ended.err)
    shown = launch(*QUICK, "--max_restarts=3", "--log_dir=logs", "--", worker)
    assert (shown.code, (shown.out + shown.err).count("use 1 or more")) == (2, 1)
    assert len(attempts()) == 1


def test_a_refusal_that_a_script_does_not_catch_is_a_mistake_too(launch, script, attempts):
    worker = script("from tfdist import data; data.check_name('digit')")
    ended = launch(*QUICK, "--max_restarts=3", "--", worker)
    assert ended.code == 2
    # Either may be first.
    assert re.search(r"\ntfdist.launch: mistake: worker [01] reported a mistake \(exit code 1\)", ended.err)
    assert "Did you mean 'digits'?" in ended.out
    assert [entry["kind"] for entry in attempts()] == ["mistake"]


def test_an_error_of_the_scripts_own_is_worth_a_restart(launch, script, attempts):
    worker = script("raise ValueError('of its own') if attempt == 0 else SystemExit(0)")
    assert launch(*QUICK, "--max_restarts=1", "--", worker).code == 0
    assert [entry["kind"] for entry in attempts()] == ["failure", "done"]


def test_a_slot_that_is_lost_is_left_out_and_the_rest_goes_on(launch, script, attempts):
    worker = script("""
make_faults(os.environ)(rank).inject("step", 5)
if attempt == 0:
    time.sleep(60)
print("one of", size)
""")
    flags = (
        "--workers=3",
        "--min_workers=2",
        "--max_restarts=1",
        "--backoff_seconds=0",
        "--chaos=lose:worker=0,step=5",
    )
    ended = launch(*flags, "--", worker)
    assert ended.code == 0
    assert ended.out.splitlines()[-1] == "[0] one of 2"
    assert attempts()[0]["then"] == "restart 1 of 1 in 0 s, with 2 workers, because slot 0 stays away"
    assert attempts()[1]["slots"] == ["slot 1", "slot 2"]


def test_below_the_least_number_of_workers_the_run_ends(launch, script):
    worker = script("make_faults(os.environ)(rank).inject('step', 5); time.sleep(60)")
    ended = launch(*QUICK, "--max_restarts=3", "--chaos=lose:worker=1,step=5", "--", worker)
    assert ended.code == 137
    assert "end: slot 1 is gone, and 1 worker would be fewer than 2" in ended.err


def test_floods_strange_bytes_and_huge_lines_reach_the_log_whole(launch, script, log):
    worker = script("""
sys.stdout.buffer.write(b"x" * 3_000_000 + b"\\n\\xff\\xfe\\n" + b"y\\n" * 200_000)
sys.stdout.buffer.write(b"1/2\\r2/2\\n")
""")
    ended = launch("--workers=1", "--", worker)
    assert ended.code == 0
    content = log(0).split("\n", 1)[1]
    assert len(content) == 3_000_000 + 4 + 400_000 + 8
    # The terminal may be too slow; then a line counts the missing ones.
    assert re.search(r"\[0\] 2/2\n$|… \d+ lines are in the logs? only\n$", ended.out)
    assert "… (the log has the rest)\n[0] \ufffd\ufffd\n[0] y\n" in ended.out


def test_an_interpreter_that_is_not_there_is_a_mistake(launch, script):
    ended = launch("--workers=2", "--python=/no/python", "--max_restarts=1", "--", script(""))
    assert ended.code == 2
    assert ended.out == "[0] tfdist.launch: [Errno 2] No such file or directory: '/no/python'\n"


def test_a_log_folder_that_cannot_be_made_is_one_message(launch, script, tmp_path):
    (tmp_path / "file").touch()
    ended = launch("--workers=2", "--log_dir=file/logs", "--", script(""))
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core to divide")
def test_each_worker_is_kept_to_its_share_of_the_cores(launch, script):
    worker = script("print(*sorted(os.sched_getaffinity(0)))")
    flags = ("--workers=2", "--tee=all", "--env=CUDA_VISIBLE_DEVICES=")
    cores = [str(core) for core in sorted(os.sched_getaffinity(0))]
    half = len(cores) // 2
    lines = launch(*flags, "--", worker).out.splitlines()
    assert sorted(lines) == [f"[0] {' '.join(cores[:half])}", f"[1] {' '.join(cores[half : 2 * half])}"]
    lines = launch(*flags, "--nodivide_cores", "--", worker).out.splitlines()
    assert sorted(lines) == [f"[{rank}] {' '.join(cores)}" for rank in (0, 1)]
