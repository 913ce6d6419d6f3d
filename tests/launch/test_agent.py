"""Hosts behind ssh, with a stand-in for ssh on the PATH that runs the command here; and the agent itself."""

import json
import os
import signal
import subprocess

import pytest

# Host "down" cannot be reached; "noisy" greets, as start-up files do; the rest run the command in a shell.
SSH = """#!/bin/sh
echo "$@" >> ssh-calls
while [ "$1" != "--" ]; do shift; done
host="$2"
if [ "$host" = down ]; then echo "ssh: connect to host down port 22: No route to host" >&2; exit 255; fi
if [ "$host" = noisy ]; then echo "Welcome to noisy!"; echo "{}"; fi
exec sh -c "$3"
"""


@pytest.fixture
def with_ssh(tmp_path):
    """Returns the environment in which ssh is the stand-in."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "ssh").write_text(SSH)
    (folder / "ssh").chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_workers_on_hosts_run_and_report_as_local_ones(launch, script, with_ssh, log, tmp_path):
    worker = script("""
print("hello from", json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"][rank], os.environ["ANIMAL"])
sys.exit(5 if rank == 3 else 0)
""")
    flags = ("--hosts=me@noisy,b", "--processes_per_host=2", "--port=7000", "--env=ANIMAL=a cat", "--tee=2,3")
    ended = launch(*flags, "--", worker, environ=with_ssh)
    assert ended.code == 5
    assert set(ended.out.splitlines()) == {"[2] hello from b:7000 a cat", "[3] hello from b:7001 a cat"}
    assert "root cause: worker 3 on b ended with exit code 5" in ended.err
    assert log(1).endswith("hello from noisy:7001 a cat\n")
    calls = (tmp_path / "ssh-calls").read_text().splitlines()
    assert sorted(call.partition(" -- ")[2].split()[0] for call in calls) == ["b", "me@noisy"]


def test_a_host_that_cannot_be_reached_is_named_and_nothing_is_started(launch, script, with_ssh, tmp_path):
    ended = launch("--hosts=a,down", "--", script(""), environ=with_ssh)
    assert ended.code == 255
    assert "root cause: host down was lost, with worker 1: ssh ended with exit code 255" in ended.err
    assert "  | ssh: connect to host down port 22: No route to host\n" in ended.err
    assert not (tmp_path / "pid-0").exists()


def test_with_fewer_workers_allowed_the_others_go_on_without_that_host(launch, script, with_ssh, attempts):
    flags = ("--hosts=down,a", "--min_workers=1", "--max_restarts=1", "--backoff_seconds=0")
    ended = launch(*flags, "--", script("print('one of', size)"), environ=with_ssh)
    assert (ended.code, ended.out) == (0, "[0] one of 1\n")
    assert attempts()[0]["then"] == "restart 1 of 1 in 0 s, with 1 worker, because slot 0 of down stays away"
    assert attempts()[1]["slots"] == ["slot 0 of a"]


def test_without_ssh_the_message_says_so(launch, script):
    ended = launch("--hosts=a", "--", script(""), environ={"PATH": "/nowhere"})
    assert (ended.code, ended.err.count("\n")) == (2, 2)
    assert "No such file or directory: 'ssh'" in ended.err


def test_a_connection_that_breaks_ends_the_workers_on_the_other_side(start, script, with_ssh, alive, eventually):
    worker = script("pathlib.Path(f'ready-{rank}').write_text(str(os.getppid()))\ntime.sleep(100)")
    started = start("--hosts=a,b", "--grace=1", "--", worker, environ=with_ssh)
    running = [started.worker_pid(f"pid-{rank}") for rank in (0, 1)]
    # The stand-in became the agent, so this kills both ends of the connection.
    os.kill(started.worker_pid("ready-1"), signal.SIGKILL)
    code, _, err = started.end()
    assert code == 255
    assert "root cause: host b was lost, with worker 1" in err and "worker 0 on a was ended by the launcher" in err
    eventually(lambda: not any(map(alive, running)))


def spec(tmp_path, script):
    worker = {
        "rank": 0,
        "environ": {
            "TF_CONFIG": json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"index": 0}}),
            "TFDIST_ATTEMPT": "0",
        },
        "command": [str(script)],
        "log": str(tmp_path / "log"),
        "shown": True,
        "share": [0, 1],
        "core_share": [0, 1],
    }
    python = subprocess.sys.executable
    return json.dumps({"do": "start", "attempt": 0, "grace": 0.3, "python": python, "workers": [worker]})


def test_an_agent_ends_its_workers_when_its_standard_input_closes(start, script, alive, eventually, tmp_path):
    worker = script("signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\ntime.sleep(100)")
    agent = start(module="tfdist.launch.agent", stdin=subprocess.PIPE)
    agent.process.stdin.write(spec(tmp_path, worker) + "\n")
    agent.process.stdin.flush()
    events = [json.loads(agent.process.stdout.readline()) for _ in range(3)]
    assert [event["event"] for event in events] == ["hello", "started", "line"]
    assert events[1]["pid"] == agent.worker_pid("pid-0")
    agent.process.stdin.close()
    eventually(lambda: not alive(events[1]["pid"]) and agent.process.poll() == 0)


def test_an_agent_whose_launcher_never_reads_still_drains_into_the_log(start, script, eventually, tmp_path):
    worker = script("for number in range(100_000):\n    print('x' * 100)\nprint('done')")
    agent = start(module="tfdist.launch.agent", stdin=subprocess.PIPE)
    agent.process.stdin.write(spec(tmp_path, worker) + "\n")
    agent.process.stdin.flush()
    eventually(lambda: (tmp_path / "log").exists() and (tmp_path / "log").read_bytes().endswith(b"done\n"))
    agent.process.stdin.close()
    eventually(lambda: agent.process.poll() is not None)
