"""TFDIST_WORKERS and an index give a cluster; TFDIST_SIZE only a group."""

import pytest

from tfdist.cluster.addresses import ClusterError
from tfdist.cluster.environments.pattern import expand
from tfdist.cluster.environments.readers import find, read_cluster


@pytest.mark.parametrize(
    ("pattern", "addresses"),
    [
        ("mnist-{0..2}.mnist:2222", ["mnist-0.mnist:2222", "mnist-1.mnist:2222", "mnist-2.mnist:2222"]),
        ("a:1,b:2", ["a:1", "b:2"]),
        ("c:1,w-{8..10}:1", ["c:1", "w-8:1", "w-9:1", "w-10:1"]),
        ("w-{08..10}:1", ["w-08:1", "w-09:1", "w-10:1"]),
        ("s-{0..1}-{0..1}:1", ["s-0-0:1", "s-0-1:1", "s-1-0:1", "s-1-1:1"]),
        ("a:{1..2}", ["a:1", "a:2"]),
    ],
)
def test_a_pattern_expands_as_in_a_shell(pattern, addresses):
    assert expand(pattern) == tuple(addresses)


@pytest.mark.parametrize("name", ["TFDIST_RANK", "JOB_COMPLETION_INDEX"])
def test_the_index_says_which_worker_this_is(name):
    cluster = read_cluster({"TFDIST_WORKERS": "mnist-{0..3}.mnist:2222", name: "2"})
    assert (cluster.source, cluster.size, cluster.address) == ("TFDIST_WORKERS", 4, "mnist-2.mnist:2222")


def test_tfdists_own_index_wins():
    environ = {"TFDIST_WORKERS": "w-{0..3}:1", "JOB_COMPLETION_INDEX": "2", "TFDIST_RANK": "1"}
    assert read_cluster(environ).rank == 1


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, "it lists the workers, but neither TFDIST_RANK nor JOB_COMPLETION_INDEX tells which of them"),
        ({"TFDIST_RANK": "-1"}, 'TFDIST_RANK is "-1", not a number. Number the workers from 0.'),
        ({"TFDIST_RANK": "4"}, "task.index is 4, but cluster.worker lists 4 addresses. Use 0..3"),
        ({"TFDIST_WORKERS": "w-{0..3}", "TFDIST_RANK": "0"}, 'is "w-0", which has no port.'),
        ({"TFDIST_WORKERS": "w-{3..0}:1", "TFDIST_RANK": "0"}, '"{3..0}" runs backwards. Write addresses with'),
        ({"TFDIST_WORKERS": "w-{0..}:1", "TFDIST_RANK": "0"}, '"w-{0..}:1" is not understood. Write addresses'),
        ({"TFDIST_WORKERS": "w-{0..99999}:1", "TFDIST_RANK": "0"}, '"{0..99999}" lists more than 65536 workers.'),
        ({"TFDIST_WORKERS": "{0..999}{0..999}:1", "TFDIST_RANK": "0"}, '"{0..999}" lists more than 65536 workers.'),
        ({"TFDIST_WORKERS": "a:1,", "TFDIST_RANK": "0"}, 'cluster.worker[1] is "", which has no port.'),
    ],
)
def test_a_wrong_variable_is_refused_by_name(environ, message):
    with pytest.raises(ClusterError) as error:
        read_cluster({"TFDIST_WORKERS": "w-{0..3}:1"} | environ)
    assert str(error.value).startswith("TFDIST_WORKERS: ") and message in str(error.value)


def test_a_size_and_a_coordinator_make_a_group():
    environ = {"TFDIST_SIZE": "3", "TFDIST_RANK": "1", "TFDIST_COORDINATOR": "leader:2000"}
    variable, group = find(environ)
    assert (variable, group.rank, group.size, group.meeting_point) == ("TFDIST_SIZE", 1, 3, "leader:2000")


def test_a_size_of_one_means_alone_whatever_a_launcher_tells():
    assert read_cluster({"TFDIST_SIZE": "1", "LWS_GROUP_SIZE": "3"}) is None
