"""TFRecord files by the number of a row, against the stored order and NumPy's permutation."""

import numpy as np
import pytest
import tensorflow as tf
from support.small_files import FEATURES, write_records
from support.tfds_folders import write_imagenet

from tfdist import data
from tfdist.data.delivery.delivery import Places
from tfdist.data.sources import record_files


def load(**options):
    options = {"features": FEATURES, "global_batch": 5, "seed": 3, "random_access": True, **options}
    return data.load("records", **options)


def numbers(source, epoch=0):
    return [int(n) for batch in source.dataset(epoch) for n in batch["number"]]


def test_places_are_those_where_tensorflow_finds_the_records(record_folder):
    path = str(record_folder / "train-00001-of-00003")
    found = [record_files.read_record(path, *place) for place in record_files.find_records(path)]
    assert found == list(tf.data.TFRecordDataset(path).as_numpy_iterator())


def test_the_order_is_one_permutation_of_the_rows_of_all_files(record_folder):
    source = load(data_dir=record_folder)
    assert numbers(load(data_dir=record_folder, shuffle=False)) == list(range(23))
    for epoch in (0, 1):
        assert numbers(source, epoch) == source.plan.order(epoch).tolist()


def test_a_worker_reads_the_records_of_its_own_rows_and_no_others(record_folder, monkeypatch):
    read, found = record_files.read_record, []
    monkeypatch.setattr(record_files, "read_record", lambda *place: found.append(place) or read(*place))
    source = load(data_dir=record_folder)
    assert source.reader.files == ()
    rows = []
    for worker in range(2):
        found.clear()
        batches = source.local_batches(Places(2, worker, 1), epoch=0, step=2).take(source.cardinality - 2)
        rows += [int(n) for (share,) in batches for n in share.batch["number"]]
        # The pipeline may have read a few rows of the next epoch ahead.
        assert len(set(found)) < source.rows
    assert sorted(rows) == sorted(source.plan.order(0)[10:].tolist())


def test_a_file_that_changes_after_the_start_is_named(tmp_path):
    path = write_records(tmp_path / "train.tfrecord", range(8))
    source = load(data_dir=tmp_path)
    path.write_bytes(path.read_bytes()[:90])
    with pytest.raises(tf.errors.OpError, match=r"train\.tfrecord: it has changed since the start\. Start again"):
        numbers(source)


def test_parts_of_a_split_of_tfds_are_read_by_number_as_in_memory(tmp_path):
    write_imagenet(tmp_path, rows=11, validation_rows=2)

    def labels(**options):
        options = {"data_dir": tmp_path, "encoded": True, "split": "train[2:-2]", "seed": 3, **options}
        source = data.load("imagenet2012", global_batch=4, **options)
        return np.concatenate([batch[1] for batch in source.dataset(1).as_numpy_iterator()])

    by_number = labels(in_memory_bytes=0, random_access=True)
    np.testing.assert_array_equal(by_number, labels())
    assert len(by_number) == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shuffle_buffer": 5}, "with random_access, shuffle_buffer has no effect. Leave one of them out"),
        ({"compression": "GZIP"}, "random_access is for uncompressed files, but these are GZIP. Leave it out"),
        ({"rows": 22}, "its files hold 23 rows instead of 22. Complete the files"),
    ],
)
def test_contradicting_options_are_refused(options, message, record_folder):
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        load(data_dir=record_folder, **options)
