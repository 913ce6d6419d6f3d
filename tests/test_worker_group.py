"""Jobs on real workers: a failure is told of its own job alone, and the other jobs still run."""

import pytest
from support.worker_group import JobError, WorkerGroup
from support.worker_jobs import misbehaving

pytestmark = pytest.mark.multi_worker


def processes(workers, number):
    """Returns the workers' processes; a job is run once for the same arguments, so that each number asks anew."""
    return [done.value for done in workers(misbehaving.process, number)]


def test_a_job_that_fails_alike_on_all_workers_is_told_with_its_tracebacks_and_they_stay(two_workers):
    before = processes(two_workers, 1)
    for text in ("one", "two"):
        told = rf"Worker 0: Traceback(.|\n)*in raise_on_all\n(.|\n)*ValueError: {text}\n\nWorker 1: Traceback"
        with pytest.raises(JobError, match=told):
            two_workers(misbehaving.raise_on_all, text)
    assert processes(two_workers, 2) == before
    assert [done.value for done in two_workers(misbehaving.total)] == [2.0, 2.0]


def test_a_failure_is_told_once_more_to_each_test_that_asks_for_the_job(two_workers):
    for _ in range(2):
        with pytest.raises(JobError, match="ValueError: three"):
            two_workers(misbehaving.raise_on_all, "three")


def test_a_job_that_ends_a_worker_is_told_and_the_next_one_has_a_new_group(two_workers):
    before = processes(two_workers, 3)
    with pytest.raises(JobError, match=r"Worker 1: the job ended the worker: code 9\. .*\nworker 1 leaves"):
        two_workers(misbehaving.leave)
    assert set(processes(two_workers, 4)).isdisjoint(before)
    assert [done.value for done in two_workers(misbehaving.total)] == [2.0, 2.0]


def test_a_job_that_fails_on_one_worker_alone_ends_the_wait_of_the_other(two_workers, monkeypatch):
    monkeypatch.setattr("support.worker_group.PATIENCE_SECONDS", 1)
    told = r"ValueError: the chief alone\n\nWorker 1: the job was not over in time, and the worker was killed\."
    with pytest.raises(JobError, match=told):
        two_workers(misbehaving.raise_on_the_chief)


def test_what_is_not_over_in_time_is_ended_with_its_workers(tmp_path, monkeypatch):
    monkeypatch.setattr("support.worker_group.START_SECONDS", 1)
    group = WorkerGroup(tmp_path)
    try:
        with pytest.raises(JobError, match=r"Worker 0: the job was not over in time(.|\n)*Worker 1: the job was not"):
            group(misbehaving.sleep, deadline_seconds=1)
    finally:
        group.close()
