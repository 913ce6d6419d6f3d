"""The report of what each worker reads."""

from types import SimpleNamespace

import pytest

from tfdist import data
from tfdist.data import report
from tfdist.data.source import Plan


def test_the_report_tells_rows_steps_and_files_exactly():
    assert report.describe(data.digits(), replicas=2, workers=2) == (
        "digits/train: 1438 rows, 45 steps of 32 (the last one 30).\n"
        "worker 0: 719 rows on 1 replica.\n"
        "worker 1: 719 rows on 1 replica."
    )


def source(rows, files=(), **plan):
    reader = SimpleNamespace(files=files)
    return SimpleNamespace(name="set", plan=Plan(rows, 4, **plan), reader=reader)


def test_the_report_says_that_streams_are_read_whole_and_that_a_remainder_is_dropped():
    assert report.describe(source(9, ("a", "b"), drop_remainder=True), replicas=3) == (
        "set: 9 rows, 2 steps of 4 (1 row dropped).\nworker 0: 8 rows on 3 replicas; reads all of 2 files."
    )


@pytest.mark.parametrize(("rows", "replicas", "workers"), [(9, 3, 3), (7, 4, 2), (8, 2, 1)])
def test_the_rows_of_all_workers_are_the_rows_of_the_epoch(rows, replicas, workers):
    counts = [report.worker_rows(rows, 4, replicas=replicas, workers=workers, worker=w) for w in range(workers)]
    assert sum(counts) == rows


def test_replicas_that_do_not_divide_among_the_workers_are_refused():
    with pytest.raises(ValueError, match="3 replicas on 2 workers"):
        report.describe(source(9), replicas=3, workers=2)
