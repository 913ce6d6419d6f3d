"""Synthetic rows: their numbers, and what is refused."""

import numpy as np
import pytest

from tfdist import data


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


def test_a_step_picks_no_rows_of_a_pool_by_their_numbers():
    # A row's number may lie beyond the pool, which repeats.
    assert data.make_synthetic(shape=(4, 4, 1), rows=12, pool=3).reader.tensors() is None


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
