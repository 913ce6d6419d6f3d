"""Synthetic rows, and the report of what each worker reads."""

from types import SimpleNamespace

import numpy as np
import pytest

from tfdist import data
from tfdist.data import report
from tfdist.data.source import Plan


def rows_of(**options):
    options = {"kind": "images", "shape": (4, 4, 1), "rows": 40, "shuffle": False, **options}
    source = data.load("synthetic", global_batch=options["rows"], **options)
    return next(source.dataset().as_numpy_iterator())


def test_rows_are_a_function_of_seed_and_row():
    images, labels = rows_of()
    again = rows_of(rows=50)
    np.testing.assert_array_equal(images, again[0][:40])
    np.testing.assert_array_equal(labels, again[1][:40])
    assert not np.array_equal(images, rows_of(seed=1)[0])
    assert not np.array_equal(images, rows_of(split="test")[0])
    assert len(np.unique(images.reshape(40, -1), axis=0)) == 40


def test_the_mean_of_an_image_tells_its_class():
    images, labels = rows_of(shape=(16, 16, 3), classes=5)
    assert set(labels) == set(range(5))
    means = images.mean(axis=(1, 2, 3))
    np.testing.assert_array_equal(np.round((means - 0.25) * 10), labels)
    assert images.min() >= 0
    assert images.max() <= 1


def test_the_label_of_a_token_is_the_next_token():
    x, y = rows_of(kind="tokens", shape=(12,), classes=7)
    assert x.shape == y.shape == (40, 12)
    np.testing.assert_array_equal(x[:, 1:], y[:, :-1])
    stride = (y - x) % 7
    assert (stride == stride[:, :1]).all()
    assert set(x.ravel()) == set(range(7))


def test_a_pool_repeats_its_first_rows():
    images, labels = rows_of()
    few_images, few_labels = rows_of(pool=3)
    np.testing.assert_array_equal(few_images, np.resize(images[:3], images.shape))
    np.testing.assert_array_equal(few_labels, np.resize(labels[:3], labels.shape))


def test_wrong_options_are_refused_with_what_came():
    with pytest.raises(ValueError, match=r"kind is 'sounds'\. Use one of \['images', 'tokens'"):
        data.make_synthetic(kind="sounds")
    with pytest.raises(ValueError, match="split is 'val'"):
        data.make_synthetic("val")
    with pytest.raises(ValueError, match=r"shape of tokens is \(2, 3\)"):
        data.make_synthetic(kind="tokens", shape=(2, 3))
    with pytest.raises(ValueError, match="pool is 0"):
        data.make_synthetic(pool=0)
    with pytest.raises(ValueError, match=r"seed is -1\. Use a whole number in 0\.\.4294967295"):
        data.make_synthetic(seed=-1)


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
