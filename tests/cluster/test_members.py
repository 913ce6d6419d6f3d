"""The processes that train together are numbered and checked."""

import pytest

from tfdist.cluster.addresses import ClusterError
from tfdist.cluster.members import Cluster, Task


def test_the_chief_comes_before_the_workers():
    jobs = {"worker": ("a:1", "b:1"), "chief": ("c:1",), "evaluator": ("e:1",)}
    tasks = [Task("chief", 0), Task("worker", 0), Task("worker", 1)]
    clusters = [Cluster(jobs, task) for task in tasks]
    assert clusters[0].workers == ("c:1", "a:1", "b:1")
    assert [cluster.rank for cluster in clusters] == [0, 1, 2]
    assert [cluster.is_chief for cluster in clusters] == [True, False, False]
    assert [cluster.address for cluster in clusters] == ["c:1", "a:1", "b:1"]


def test_a_cluster_made_in_code_is_checked_too():
    with pytest.raises(ClusterError, match=r"^Launcher: task.index is 1, but cluster.worker lists"):
        Cluster({"worker": ("a:1",)}, Task("worker", 1), source="Launcher")
