"""Numbered processes become a group, and with their hosts a cluster."""

import pytest

from tfdist.cluster import group as module
from tfdist.cluster.addresses import ClusterError
from tfdist.cluster.group import ProcessGroup, read_group

NAMES = {"rank": "R", "size": "S", "host_size": "H", "job": "7"}


def read(coordinator=None, **environ):
    return read_group(environ, "Launcher", **NAMES, coordinator=coordinator)


@pytest.fixture(autouse=True)
def gpus(monkeypatch):
    """Returns a function that plants a number of GPUs; none by default."""

    def plant(count):
        monkeypatch.setattr(module, "count_gpus", lambda environ: count)

    plant(0)
    return plant


def test_processes_of_one_host_need_no_coordinator():
    group = read(R="1", S="2", H="2")
    assert (group.is_local, group.coordinator, group.rank, group.size) == (True, "127.0.0.1", 1, 2)


def test_a_single_process_is_no_group():
    assert read(S="1") is None


def test_all_processes_of_a_job_agree_on_the_port_and_jobs_differ():
    groups = [read(R=rank, S="2", H="2") for rank in "01"]
    assert groups[0].port == groups[1].port
    others = {read_group({"R": "0", "S": "2", "H": "2"}, "Launcher", **NAMES | {"job": job}).port for job in "abcdef"}
    assert len(others) == 6 and all(10000 <= port < 32768 for port in others)


def test_the_coordinator_of_the_user_wins_over_the_launchers():
    assert read("launcher", R="0", S="4").coordinator == "launcher"
    assert read("launcher", R="0", S="4", TFDIST_COORDINATOR="mine", TFDIST_PORT="500").meeting_point == "mine:500"
    assert read(R="0", S="2", H="2", TFDIST_COORDINATOR="[::1]:500").meeting_point == "[::1]:500"
    assert read(R="0", S="4", TFDIST_COORDINATOR="[::1]", TFDIST_PORT="500").meeting_point == "[::1]:500"


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"S": "2"},
            "Launcher: R is not set. Let the launcher pass on its variables. If this process is to",
        ),
        ({"S": "x"}, 'Launcher: S is "x", not a number. Let the launcher set it.'),
        ({"S": "2", "R": "2"}, "Launcher: R is 2, but S is 2. Number the processes from 0"),
        (
            {"S": "2", "R": "0"},
            "Launcher: S is 2, but no variable tells on which host process 0 is. Set TFDIST_",
        ),
        (
            {"S": "2", "R": "0", "H": "1"},
            "to that host in each process. If this process is to train alone, use --alone",
        ),
        ({"S": "2", "R": "0", "TFDIST_COORDINATOR": "a:0"}, 'TFDIST_COORDINATOR is "a:0", whose port is "0".'),
        ({"S": "2", "R": "0", "TFDIST_COORDINATOR": "fe80::1"}, "Put an IPv6 address in brackets"),
        ({"S": "9", "R": "0", "TFDIST_COORDINATOR": "a:65530"}, "its port is 65530, and 9 workers use the ports after"),
        ({"S": "2", "R": "0", "H": "2", "TFDIST_PORT": "x"}, 'TFDIST_PORT: it is "x", and 3 tasks on a host need'),
    ],
)
def test_a_wrong_variable_is_refused_by_name(environ, message):
    with pytest.raises(ClusterError) as error:
        read(**environ)
    assert message in str(error.value)


def test_a_coordinator_that_is_no_host_is_refused():
    with pytest.raises(ClusterError, match='Launcher: the address of process 0 is "a b:'):
        read("a b", R="0", S="2")


def test_workers_of_a_host_have_ports_in_a_row_after_that_of_the_exchange():
    clusters = [
        ProcessGroup("Launcher", rank, 4, "a", 500).make_cluster(["a", "b", "a", "::1"], {}) for rank in range(4)
    ]
    assert {cluster.workers for cluster in clusters} == {("a:501", "b:501", "a:502", "[::1]:501")}
    assert [cluster.rank for cluster in clusters] == [0, 1, 2, 3]
    assert [cluster.gpus for cluster in clusters] == [None] * 4


@pytest.mark.parametrize(
    ("visible", "shares"),
    [
        ({}, [("0", "1"), None, ("2", "3")]),
        ({"CUDA_VISIBLE_DEVICES": "3,2,1,0"}, [("3", "2"), None, ("1", "0")]),
        # A wrapper script has given each process its own.
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, [None, None, None]),
    ],
)
def test_processes_of_a_host_divide_the_gpus_that_all_of_them_see(visible, shares, gpus):
    gpus(4)
    clusters = [ProcessGroup("Launcher", rank, 3, "a", 500).make_cluster(["a", "b", "a"], visible) for rank in range(3)]
    assert [cluster.gpus for cluster in clusters] == shares


def test_gpus_that_the_processes_cannot_divide_are_refused(gpus):
    gpus(3)
    with pytest.raises(ClusterError, match="3 GPUs, which do not divide evenly among its 2 tasks"):
        ProcessGroup("Launcher", 0, 2, "a", 500).make_cluster(["a", "a"], {})
