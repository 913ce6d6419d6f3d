"""TFRecord files: finding them, counting their records, and the order."""

import gzip
import shutil

import numpy as np
import pytest
import tensorflow as tf
from support.small_files import FEATURES, write_records

from tfdist import data
from tfdist.data.sources import record_files


def load(**options):
    return data.load("records", **{"features": FEATURES, "global_batch": 5, **options})


def numbers(source, epoch=0):
    batches = source.dataset(epoch).as_numpy_iterator()
    return np.concatenate([batch["number"] for batch in batches]).tolist()


def test_records_are_counted_by_their_headers(record_folder):
    paths = record_files.find_files(record_folder, "train")
    assert [record_files.count_records(path) for path in paths] == [4, 11, 8]
    for path in paths:
        assert record_files.count_records(path) == len(list(tf.data.TFRecordDataset(path)))


def test_without_shuffling_records_come_as_they_are_stored(record_folder):
    assert numbers(load(data_dir=record_folder, shuffle=False)) == list(range(23))


def test_the_shuffled_order_is_a_function_of_seed_epoch_and_buffer(record_folder):
    def order(epoch=0, **options):
        return tuple(numbers(load(data_dir=record_folder, **options), epoch))

    first = order(seed=0, shuffle_buffer=6)
    tf.random.set_seed(5)
    assert first == order(seed=0, shuffle_buffer=6), "TensorFlow's own seed has no part in it"
    tf.random.set_seed(0)
    assert first == order(seed=0, shuffle_buffer=6)
    others = {order(seed=1), order(seed=0, epoch=1), order(seed=0, epoch=2), order(seed=0)}
    assert len(others | {first}) == 5


def test_the_shuffled_order_never_changes_between_versions(record_folder):
    assert numbers(load(data_dir=record_folder, seed=0, shuffle_buffer=6)) == (
        [16, 15, 5, 1, 2, 18, 0, 6, 8, 20, 9, 21, 19, 7, 11, 12, 22, 10, 14, 13, 17, 3, 4]
    )


def test_files_are_shuffled_too(tmp_path):
    for i in range(20):
        write_records(tmp_path / f"train{i:02d}.tfrecord", [i])
    source = load(data_dir=tmp_path, shuffle_buffer=1)
    first, second = numbers(source, 0), numbers(source, 1)
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second != list(range(20)) != first


def test_files_are_found_by_split_by_sub_folder_or_by_pattern(record_folder, tmp_path):
    shutil.copytree(record_folder, tmp_path / "validation")
    (tmp_path / "validation" / "notes.txt").write_text("no records")
    assert load(data_dir=tmp_path, split="validation").rows == 23
    assert load(files=str(record_folder / "*-of-*")).rows == 23
    assert load(files=[record_folder / "train-00001-of-00003"]).rows == 11
    with pytest.raises(FileNotFoundError, match="no TFRecord files of split 'test' in '"):
        load(data_dir=record_folder, split="test")
    with pytest.raises(FileNotFoundError, match=r"files is '/nowhere/\*': no such file"):
        load(files="/nowhere/*")
    with pytest.raises(ValueError, match=r"data_dir is None and files is None. Give one of them"):
        load()


def test_gzip_files_are_read_and_counted(tmp_path):
    write_records(tmp_path / "train.tfrecord.gz", range(7), compression="GZIP")
    assert numbers(load(data_dir=tmp_path, shuffle=False)) == list(range(7))
    write_records(tmp_path / "zipped.tfrecord", range(7), compression="GZIP")
    assert load(files=tmp_path / "zipped.tfrecord", compression="GZIP").rows == 7
    with pytest.raises(ValueError, match=r"1 of 2 files end in \.gz"):
        load(files=str(tmp_path / "*"))
    with pytest.raises(ValueError, match="compression is 'zip'"):
        load(data_dir=tmp_path, compression="zip")


def test_zlib_files_need_their_number_of_rows(tmp_path):
    path = write_records(tmp_path / "train.tfrecord", range(7), compression="ZLIB")
    with pytest.raises(ValueError, match=r"ZLIB files are not counted. Give rows="):
        load(files=path, compression="ZLIB")
    assert numbers(load(files=path, compression="ZLIB", rows=7, shuffle=False)) == list(range(7))


@pytest.mark.parametrize("cut", [1, 4, 10, 20])
def test_a_truncated_file_is_named_with_the_offset_of_the_record(cut, tmp_path):
    path = write_records(tmp_path / "train.tfrecord", [1])
    first = path.stat().st_size
    write_records(path, [1, 2])
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(ValueError, match=rf"train\.tfrecord: the record at byte {first} is cut off"):
        load(data_dir=tmp_path)


def test_a_file_of_something_else_is_named(tmp_path):
    (tmp_path / "train.tfrecord").write_bytes(b"this is text, and no record at all" * 9)
    with pytest.raises(ValueError, match="the record at byte 0 is cut off, or this is not a TFRecord"):
        load(data_dir=tmp_path)
    zipped = gzip.compress(b"0" * 1000)
    (tmp_path / "train.tfrecord").rename(tmp_path / "train.tfrecord.gz")
    with pytest.raises(ValueError, match=r"train\.tfrecord\.gz: broken GZIP file"):
        load(data_dir=tmp_path)
    (tmp_path / "train.tfrecord.gz").write_bytes(zipped[:-9])
    with pytest.raises(ValueError, match=r"train\.tfrecord\.gz"):
        load(data_dir=tmp_path)


def test_an_epoch_that_ends_before_its_rows_is_an_error(record_folder):
    for shuffle in (False, True):
        source = load(data_dir=record_folder, rows=24, shuffle=shuffle)
        with pytest.raises(
            tf.errors.InvalidArgumentError,
            match=r"an epoch ended before its 24 rows: the 3 files hold fewer. Leave out rows=",
        ):
            numbers(source)


def test_parse_makes_rows_of_examples(record_folder):
    def parse(example):
        return tf.one_hot(example["number"], 23), example["number"] % 2

    x, y = next(iter(load(data_dir=record_folder, parse=parse, shuffle=False).dataset()))
    np.testing.assert_array_equal(x, np.eye(23)[:5])
    np.testing.assert_array_equal(y, [0, 1, 0, 1, 0])


def test_rows_of_several_shapes_are_refused(record_folder):
    def parse(example):
        return tf.range(example["number"])

    with pytest.raises(ValueError, match=r"shape \(None,\), but all rows of a batch need the same shape"):
        next(iter(load(data_dir=record_folder, parse=parse).dataset()))


def test_ragged_and_sparse_features_are_batched(record_folder):
    features = {"number": tf.io.RaggedFeature(tf.int64), "gone": tf.io.VarLenFeature(tf.int64)}
    batch = next(iter(load(data_dir=record_folder, features=features, shuffle=False).dataset()))
    assert batch["number"].to_list() == [[0], [1], [2], [3], [4]]
    assert batch["gone"].shape[0] == 5


@pytest.mark.parametrize("names", [("image", "label"), ("image/encoded", "image/class/label")])
def test_the_usual_image_records_need_no_features(names, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    write_image_record(tmp_path / "train.tfrecord", *names, tf.io.encode_png(noise).numpy())
    source = data.load("records", data_dir=tmp_path, image_size=(6, 8))
    images, labels = next(iter(source.dataset()))
    np.testing.assert_allclose(images[0] * 255, noise, atol=1e-3)
    assert labels.numpy().tolist() == [7]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("image", "id"), "a record lacks image or image/encoded, or label or image/class/label"),
        (("image", "label"), "records/train: a record: cannot be decoded as an image"),
    ],
)
def test_other_records_are_refused_with_what_they_lack(names, message, tmp_path):
    write_image_record(tmp_path / "train.tfrecord", *names, b"no image")
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        next(iter(data.load("records", data_dir=tmp_path).dataset()))


def write_image_record(path, image_name, label_name, image):
    features = {
        image_name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
        label_name: tf.train.Feature(int64_list=tf.train.Int64List(value=[7])),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(example.SerializeToString())


def test_contradicting_options_are_refused(record_folder):
    with pytest.raises(ValueError, match="image_size is for records without features"):
        load(data_dir=record_folder, image_size=(4, 4))
    with pytest.raises(ValueError, match="parse needs features"):
        load(data_dir=record_folder, features=None, parse=lambda example: example)
    with pytest.raises(ValueError, match=r"shuffle_buffer is 0\. Use 1 or more"):
        load(data_dir=record_folder, shuffle_buffer=0)


def test_encoded_images_are_given_as_they_are_stored_and_cut_while_they_are_decoded(tmp_path):
    image = tf.io.encode_jpeg(np.full((20, 30, 3), 100, np.uint8)).numpy()
    write_image_record(tmp_path / "train.tfrecord", "image/encoded", "image/class/label", image)
    source = data.load("records", data_dir=tmp_path, encoded=True)
    images, labels = next(source.dataset().as_numpy_iterator())
    assert (images.tolist(), labels.tolist()) == ([image], [7])
    cut = source.map(data.augment.on_images(data.augment.decode_resized_crop((6, 8))))
    np.testing.assert_allclose(next(iter(cut.dataset()))[0], np.full((1, 6, 8, 3), 100 / 255), atol=1e-2)


def test_both_image_layouts_may_be_mixed(tmp_path):
    write_image_record(tmp_path / "train-00000-of-00002", "image", "label", b"a")
    write_image_record(tmp_path / "train-00001-of-00002", "image/encoded", "image/class/label", b"b")
    source = data.load("records", data_dir=tmp_path, encoded=True, shuffle=False)
    images, labels = next(source.dataset().as_numpy_iterator())
    assert (images.tolist(), labels.tolist()) == ([b"a", b"b"], [7, 7])


@pytest.mark.parametrize("options", [{"image_size": (4, 4)}, {"features": FEATURES}])
def test_what_encoded_leaves_no_meaning_is_refused(options, record_folder):
    with pytest.raises(ValueError, match="encoded is for images without features and without image_size"):
        load(data_dir=record_folder, **{"features": None, "encoded": True, **options})
