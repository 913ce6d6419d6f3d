"""Sources of IDX files, against NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from support.idx_folders import idx_bytes, pictures, write_pair

from tfdist import data
from tfdist.data.sources import idx


def load(folder, **options):
    return data.load("idx", data_dir=folder, **{"shuffle": False, "global_batch": 100, **options})


def read(source):
    return next(source.dataset().as_numpy_iterator())


@pytest.mark.parametrize("most_bytes", [2**30, 0], ids=["kept as floats", "kept as bytes"])
def test_bytes_become_floats_in_0_to_1_with_a_channel(most_bytes, tmp_path, monkeypatch):
    monkeypatch.setattr(idx, "_MOST_BYTES_OF_FLOATS", most_bytes)
    source = load(write_pair(tmp_path, "train", rows=23))
    images, labels = read(source)
    np.testing.assert_array_equal(images, (pictures(23) / np.float32(255))[..., None])
    np.testing.assert_array_equal(labels, np.arange(23) % 10)
    assert (images.dtype, labels.dtype, source.classes) == (np.float32, np.int32, 10)
    assert (source.rows_in_memory() is not None) == (most_bytes > 0)


def test_a_step_picks_the_rows_itself(tmp_path):
    source = load(write_pair(tmp_path, "train", rows=23))
    assert source.is_in_memory(tf.distribute.get_strategy())


def test_other_types_keep_their_values_and_other_shapes_their_dimensions(tmp_path):
    images, labels = np.linspace(-3, 900, 30).reshape(5, 3, 2, 1), np.arange(10, dtype=">i4").reshape(5, 2)
    (tmp_path / "train-images-idx4-double").write_bytes(idx_bytes(images))
    (tmp_path / "train-labels-idx2-int").write_bytes(idx_bytes(labels))
    source = load(tmp_path)
    found = read(source)
    np.testing.assert_array_equal(found[0], images.astype(np.float32))
    np.testing.assert_array_equal(found[1], labels)
    assert source.classes is None


def test_emnist_is_turned_upright_unless_told_otherwise(tmp_path):
    folder = write_pair(tmp_path, "test", rows=5, part="emnist-letters-")
    stored = (pictures(5) / np.float32(255))[..., None]
    upright, as_stored = read(load(folder, split="test")), read(load(folder, split="test", transpose=False))
    np.testing.assert_array_equal(upright[0], stored.swapaxes(1, 2))
    np.testing.assert_array_equal(as_stored[0], stored)
    source = load(folder, split="test", part="letters")
    assert (source.name, source.classes, source.class_names[:2]) == ("emnist-letters/test", 27, ("none", "A"))


def test_a_test_split_has_the_classes_of_train(tmp_path):
    write_pair(tmp_path, "train", rows=9)
    write_pair(tmp_path, "t10k", rows=4)
    assert [load(tmp_path, split=split).classes for split in ("train", "test")] == [9, 9]


def test_a_part_of_a_split_is_read(tmp_path):
    folder = write_pair(tmp_path, "train", rows=10)
    assert read(load(folder, split="train[70%:]"))[1].tolist() == [7, 8, 9]
    assert load(folder, split="train[:3]", shuffle=None).plan.shuffle
    with pytest.raises(ValueError, match="there are no rows"):
        load(folder, split="train[5:5]")


def test_labels_that_the_named_data_set_does_not_have_are_refused(tmp_path):
    write_pair(tmp_path, "train", rows=3, part="emnist-letters-")
    path = tmp_path / "emnist-letters-train-labels-idx1-ubyte.gz"
    path.write_bytes(idx_bytes(np.array([1, 26, 27], np.uint8)))
    with pytest.raises(
        ValueError, match=r"labels.*: it has the label 27, but emnist-letters has 27 classes\. Check data"
    ):
        load(tmp_path)
