"""Signals to the launcher; no process that it started is left."""

import os
import pathlib
import signal

import pytest

CHILD = """
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
pathlib.Path(f"child-{rank}").write_text(str(child.pid))
"""
ASLEEP = CHILD + "pathlib.Path(f'ready-{rank}').write_text('ready')\ntime.sleep(100)\n"
STUBBORN = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" + ASLEEP


def pids(started):
    started.wait_for("ready-0", "ready-1")
    return [started.worker_pid(f"{kind}-{rank}") for kind in ("pid", "child") for rank in (0, 1)]


def test_promise_22_sigterm_is_passed_on_and_saved_work_gives_75(start, script, attempts):
    worker = script("""
def save(*_):
    print("saving", flush=True)
    time.sleep(0.5)
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
pathlib.Path(f"ready-{rank}").write_text("ready")
time.sleep(100)
""")
    started = start("--workers=2", "--max_restarts=3", "--grace=15", "--", worker)
    started.wait_for("ready-0", "ready-1")
    os.kill(started.pid, signal.SIGTERM)
    # A job system may send it twice: the second one changes nothing.
    os.kill(started.pid, signal.SIGTERM)
    code, out, err = started.end()
    assert code == 75
    assert out == "[0] saving\n"
    assert "SIGTERM: passed on; SIGKILL follows in 15 s" in err and "end: a signal asked the launcher to end" in err
    assert attempts()[0]["exit_codes"] == [75, 75] and len(attempts()) == 1


def test_promise_22_ctrl_c_reaches_every_worker(start, script, log):
    worker = script("""
try:
    pathlib.Path(f"ready-{rank}").write_text("ready")
    time.sleep(100)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
""")
    started = start("--workers=2", "--grace=15", "--", worker)
    started.wait_for("ready-0", "ready-1")
    os.kill(started.pid, signal.SIGINT)
    assert started.end()[0] == 130
    assert log(0).endswith("interrupted\n") and log(1).endswith("interrupted\n")


def test_promise_22_after_the_grace_comes_sigkill_for_the_whole_group(start, script, alive, eventually):
    started = start("--workers=2", "--grace=0.5", "--", script(STUBBORN))
    running = pids(started)
    os.kill(started.pid, signal.SIGTERM)
    assert started.end()[0] == 137
    eventually(lambda: not any(map(alive, running)))


def test_a_second_ctrl_c_does_not_wait_for_the_grace(start, script, alive, eventually):
    started = start("--workers=2", "--grace=300", "--", script(STUBBORN))
    running = pids(started)
    os.kill(started.pid, signal.SIGINT)
    started.wait_for("runs/launch-1/launch.json")
    line = ""
    while "passed on" not in line:
        line = started.process.stderr.readline()
    os.kill(started.pid, signal.SIGINT)
    assert started.end()[0] == 137
    eventually(lambda: not any(map(alive, running)))


@pytest.mark.parametrize("code", [ASLEEP, STUBBORN], ids=["obedient", "stubborn"])
def test_promise_20_a_launcher_that_is_killed_leaves_no_orphan(code, start, script, alive, eventually):
    started = start("--workers=2", "--grace=0.5", "--", script(code))
    running = pids(started)
    os.kill(started.pid, signal.SIGKILL)
    eventually(lambda: not any(map(alive, running)))


def test_what_a_worker_leaves_behind_ends_with_it(start, script, alive, eventually):
    started = start("--workers=2", "--", script(CHILD))
    children = [started.worker_pid(f"child-{rank}") for rank in (0, 1)]
    assert started.end()[0] == 0
    eventually(lambda: not any(map(alive, children)))


def test_an_agent_that_is_killed_takes_its_workers_with_it_and_is_named(start, script, alive, eventually):
    started = start("--workers=2", "--", script(ASLEEP + "pass"))
    running = pids(started)
    parent = int(pathlib.Path(f"/proc/{running[0]}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    code, _, err = started.end()
    assert code == 255
    assert "root cause: the agent of this machine was lost, with worker 0, 1" in err
    eventually(lambda: not any(map(alive, running)))


def test_a_signal_between_two_attempts_ends_the_launch(start, script):
    started = start("--workers=1", "--max_restarts=1", "--backoff_seconds=100", "--", script("sys.exit(3)"))
    line = ""
    while "restart 1 of 1" not in line:
        line = started.process.stderr.readline()
    os.kill(started.pid, signal.SIGTERM)
    code, _, err = started.end()
    assert (code, err) == (75, "tfdist.launch: a signal ended the launch before the next start\n")


@pytest.mark.parametrize("closed", [True, False])
def test_the_run_continues_when_the_terminal_is_not_read(closed, start, script, log):
    worker = script("""
pathlib.Path("ready-0").write_text("ready")
wait_for("closed")
for number in range(3000):
    print("x" * 100)
""")
    started = start("--workers=1", "--", worker)
    started.wait_for("ready-0")
    if closed:
        started.process.stdout.close()
    (started.folder / "closed").touch()
    assert started.process.wait(20) == 0
    assert log(0).count("\n") == 3001
