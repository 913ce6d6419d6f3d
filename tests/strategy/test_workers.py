"""Who a worker is, and that one that left after all had arrived is not lost; two real ones: test_multi_worker.py."""

import types

import pytest
import tensorflow as tf

from tfdist.cluster.members import Cluster, Task
from tfdist.strategy.workers import SeveralWorkers, Workers


def strategy_of(jobs, task, **attributes):
    spec = tf.train.ClusterSpec(jobs)
    resolver = types.SimpleNamespace(task_type=task[0], task_id=task[1], cluster_spec=lambda: spec)
    return types.SimpleNamespace(cluster_resolver=resolver, **attributes)


def test_a_process_alone_is_its_own_chief(make_strategy):
    for strategy in (tf.distribute.get_strategy(), make_strategy(1), make_strategy(2)):
        workers = Workers.of(strategy)
        assert (workers.count, workers.rank, workers.is_chief) == (1, 0, True)
        assert workers.vote([3], [True, False]) == ([3], [True, False])
        assert (workers.broadcast([3]), workers.gather([1, 2]), workers.wait()) == ([3], [[1, 2]], None)


class Pod(tf.distribute.TPUStrategy):
    """A TPUStrategy over four hosts, without the TPU that its constructor asks for."""

    def __init__(self):
        pass

    @property
    def cluster_resolver(self):
        """A resolver that lists the hosts as TPUClusterResolver does, itself as the first of them."""
        hosts = tf.train.ClusterSpec({"worker": ["a:8470", "b:8470", "c:8470", "d:8470"]})
        return tf.distribute.cluster_resolver.SimpleClusterResolver(hosts, task_type="worker", task_id=0)


def test_one_process_that_controls_all_hosts_of_a_tpu_is_one_worker():
    workers = Workers.of(Pod())
    assert type(workers) is Workers and (workers.count, workers.rank, workers.is_chief) == (1, 0, True)


def test_a_strategy_has_its_workers_once(make_strategy):
    one, other = make_strategy(2), make_strategy(2)
    assert Workers.of(one) is Workers.of(one)
    assert Workers.of(one) is not Workers.of(other)


@pytest.mark.parametrize(
    ("jobs", "task", "rank"),
    [
        ({"worker": ["a:1", "b:1"]}, ("worker", 0), 0),
        ({"worker": ["a:1", "b:1"]}, ("worker", 1), 1),
        ({"chief": ["c:1"], "worker": ["a:1"]}, ("chief", 0), 0),
        ({"chief": ["c:1"], "worker": ["a:1"]}, ("worker", 0), 1),
        ({}, (None, None), 0),
    ],
)
def test_the_chief_is_the_listed_one_or_else_worker_0(jobs, task, rank):
    workers = Workers.of(strategy_of(jobs, task))
    assert (workers.count, workers.rank, workers.is_chief) == (2 if jobs else 1, rank, rank == 0)
    if jobs:
        cluster = Cluster({job: tuple(hosts) for job, hosts in jobs.items()}, Task(*task))
        assert cluster.is_chief is workers.is_chief


def test_votes_of_many_lengths_raise_no_warning_about_tracing(make_strategy, monkeypatch):
    warnings = []
    monkeypatch.setattr(tf.get_logger(), "warning", lambda text, *arguments: warnings.append(text))
    workers = SeveralWorkers(make_strategy(2), count=2, rank=0, is_chief=True)
    for length in range(8):
        numbers, flags = list(range(length)), [False, True][: length % 3]
        # Both replicas are of this process, so each flag counts twice, which changes no answer.
        assert workers.vote(numbers, flags) == (numbers, flags)
    assert not warnings


@pytest.fixture
def last_vote(monkeypatch):
    """Returns a function (error or None) → the first of two workers, whose next vote ends so."""

    def end_in(error):
        def vote(numbers, flags):
            if error:
                raise error
            return numbers, flags

        workers = Workers.of(strategy_of({"worker": ["a:1", "b:1"]}, ("worker", 0)))
        monkeypatch.setattr(workers, "vote", vote)
        return workers

    return end_in


@pytest.mark.parametrize("error", [None, tf.errors.UnavailableError(None, None, "Socket closed")])
def test_promise_21_a_worker_that_left_when_all_were_there_is_not_lost(last_vote, error):
    last_vote(error).wait()


def test_another_error_of_the_last_vote_is_raised(last_vote):
    with pytest.raises(tf.errors.InternalError):
        last_vote(tf.errors.InternalError(None, None, "something else")).wait()
