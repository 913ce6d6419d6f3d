"""The plan of a launch is made without starting anything."""

import json
import pathlib
import shlex

import pytest

from tfdist.cluster.environments.readers import read_cluster
from tfdist.cluster.ports import free_ports
from tfdist.launch import plan
from tfdist.launch.config import LaunchConfig
from tfdist.launch.folders import Folders, find_folders

FOLDERS = Folders(pathlib.Path("/logs"), ("-m", "my.module", "--a b"))


def make(config, attempt=0, keep=None):
    slots = [slot for slot in plan.make_slots(config) if keep is None or slot.number in keep]
    return plan.make_workers(config, FOLDERS, slots, attempt, ports=range(5001, 5001 + len(slots)))


def test_local_workers_have_a_tf_config_each_on_loopback():
    workers = make(LaunchConfig(("x.py",), workers=3))
    for rank, worker in enumerate(workers):
        cluster = read_cluster(worker.environ)
        assert cluster.workers == ("127.0.0.1:5001", "127.0.0.1:5002", "127.0.0.1:5003")
        assert (cluster.rank, worker.rank, worker.log) == (rank, rank, f"/logs/worker-{rank}.log")
    assert json.loads(workers[1].environ["TF_CONFIG"])["task"] == {"type": "worker", "index": 1}


def test_workers_learn_attempt_faults_and_the_file_of_restarts():
    config = LaunchConfig(("x.py",), workers=2, chaos="lose:worker=1,step=4", env=("A=1",), max_restarts=1)
    environ = make(config, attempt=3)[0].environ
    del environ["TF_CONFIG"]
    assert environ == {
        "A": "1",
        "PYTHONUNBUFFERED": "1",
        "TFDIST_ATTEMPT": "3",
        "TFDIST_FAULTS": "kill:worker=1,step=4",
        "TFDIST_RESTARTS_FILE": "/logs/launch.json",
    }


def test_on_hosts_ports_count_up_and_users_are_left_out_of_addresses():
    config = LaunchConfig(("x.py",), hosts=("a", "me@b"), processes_per_host=2, port=700)
    workers = make(config)
    assert read_cluster(workers[3].environ).workers == ("a:700", "a:701", "b:700", "b:701")
    assert [str(worker) for worker in workers][2] == "worker 2 on me@b"
    assert [str(worker.slot) for worker in workers][3] == "slot 1 of me@b"


def test_fewer_workers_have_ranks_without_a_gap_and_their_own_share_of_the_gpus():
    config = LaunchConfig(("x.py",), hosts=("a", "b"), processes_per_host=2, max_restarts=1, min_workers=1)
    workers = make(config, keep={1, 2})
    assert [(worker.rank, worker.slot.number) for worker in workers] == [(0, 1), (1, 2)]
    assert read_cluster(workers[1].environ).workers == ("a:12346", "b:12345")
    (told,) = plan.agent_spec(config, workers[:1], 0)["workers"]
    # Cores are divided among the workers of this attempt.
    assert (told["share"], told["core_share"]) == ([1, 2], [0, 1])


def test_cores_are_divided_unless_that_is_not_wanted():
    def shares(**options):
        config = LaunchConfig(("x.py",), workers=2, **options)
        return [item["core_share"] for item in plan.agent_spec(config, make(config), 0)["workers"]]

    assert shares() == [[0, 2], [1, 2]]
    assert shares(divide_cores=False) == [[0, 1]] * 2


def test_ports_are_free_and_differ():
    assert len(set(free_ports(20))) == 20


def test_the_ssh_command_is_one_string_for_the_other_shell_with_spaces_quoted():
    config = LaunchConfig(("x.py",), hosts=("me@b",), python="/opt/my python/bin/python")
    command = plan.agent_command(config, "me@b", "/home/me/a folder; rm x")
    assert command[0] == "ssh" and command[-3:-1] == ("--", "me@b")
    assert "-oBatchMode=yes" in command
    assert shlex.split(command[-1]) == [
        *("cd", "/home/me/a folder; rm x", "&&", "exec"),
        *("/opt/my python/bin/python", "-m", "tfdist.launch.agent"),
    ]


@pytest.mark.parametrize(
    ("command", "log_dir", "logs", "added", "run_dir"),
    [
        (("x.py",), None, "runs/launch-1", (), None),
        (("x.py", "--run_dir=r"), None, "r/logs", (), "r"),
        (("x.py", "--run_dir", "r"), None, "r/logs", (), "r"),
        (("x.py", "--run_dir=r"), "l", "l", (), "r"),
        (("-m", "tfdist.train"), None, "runs/launch-1/logs", ("--run_dir=runs/launch-1",), "runs/launch-1"),
        (("-m", "tfdist.train"), "l", "l", ("--run_dir=runs/launch-1",), "runs/launch-1"),
        (("-m", "tfdist.train", "--run_dir=r"), None, "r/logs", (), "r"),
    ],
)
def test_logs_lie_in_the_run_and_training_always_has_one(command, log_dir, logs, added, run_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = find_folders(LaunchConfig(command, workers=2, log_dir=log_dir))
    assert folders.logs == tmp_path / logs
    assert folders.command == (*command, *added)
    assert folders.run_dir == (run_dir and pathlib.Path(run_dir))
    assert list(tmp_path.iterdir()) == []


def test_dry_run_prints_what_would_run_and_starts_nothing(launch, tmp_path):
    ended = launch("--hosts=a,b", "--port=7000", "--dry_run", "--", "-m", "tfdist.train", "--x=a b")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert [line for line in lines if line.startswith("#")][2] == (
        f"# worker 0 on a, log {tmp_path}/runs/launch-1/logs/worker-0.log:"
    )
    assert lines[-1].endswith("-m tfdist.train '--x=a b' --run_dir=runs/launch-1")
    assert "ssh -T" in lines[1] and '"index": 1' in lines[-1] and "b:7000" in lines[-1]
    assert list(tmp_path.iterdir()) == []


def test_tf_config_only_prints_one_a_worker(launch, tmp_path):
    ended = launch("--hosts=a,b", "--tf_config_only")
    assert (ended.code, ended.err) == (0, "")
    clusters = [read_cluster({"TF_CONFIG": line}) for line in ended.out.splitlines()]
    assert [cluster.rank for cluster in clusters] == [0, 1]
    assert clusters[0].workers == ("a:12345", "b:12345")
    assert list(tmp_path.iterdir()) == []
