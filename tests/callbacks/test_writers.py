"""Callbacks that write the numbers of a run to files."""

import datetime
import json

import pytest
import tensorflow as tf

from tfdist.callbacks.writers import MetricsFile, TensorBoardScalars, plain


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def clock():
    """Returns the time of all lines."""
    return 100.1234


def test_a_file_gets_one_object_an_epoch_and_keeps_those_of_an_earlier_run(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    MetricsFile(path, clock=clock).on_epoch_end(0, {"loss": 1.5})
    again = MetricsFile(path, clock=clock)
    again.steps_before = 3
    again.on_epoch_begin(1)
    again.on_train_batch_end(2)
    again.on_epoch_end(1, {"loss": 0.5, "val_loss": 0.75})
    assert lines_of(path) == [
        {"epoch": 1, "step": 0, "time": 100.123, "loss": 1.5},
        {"epoch": 2, "step": 6, "time": 100.123, "loss": 0.5, "val_loss": 0.75},
    ]


def test_a_line_in_the_file_may_have_more_than_the_logs(tmp_path):
    path = tmp_path / "metrics.jsonl"
    MetricsFile(path, lambda: {"workers": [{"worker": 0}]}, clock=clock).on_epoch_end(0, {"loss": 1.5})
    assert lines_of(path) == [{"epoch": 1, "step": 0, "time": 100.123, "loss": 1.5, "workers": [{"worker": 0}]}]


def test_a_metric_of_any_name_and_shape_is_written_and_hides_no_place(tmp_path):
    path = tmp_path / "metrics.jsonl"
    logs = {"epoch": 9, "step": tf.constant(9.5), "recalls": tf.constant([0.25, 0.5])}
    MetricsFile(path, clock=clock).on_epoch_end(0, logs)
    assert lines_of(path) == [{"epoch": 1, "step": 0, "time": 100.123, "recalls": [0.25, 0.5]}]


def test_each_few_steps_there_is_a_line_with_the_learning_rate_and_one_for_each_checkpoint(tmp_path, optimizer):
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(
        path, every_steps=2, more_of_step=lambda: {"examples_per_second": 7.0}, optimizer=optimizer, clock=clock
    )
    for batch in range(3):
        metrics.on_train_batch_end(batch, {"loss": tf.constant(0.5)})
    metrics.on_checkpoint(3, 0.123456)
    assert lines_of(path) == [
        {"step": 2, "time": 100.123, "learning_rate": 0.1, "loss": 0.5, "examples_per_second": 7.0},
        {"event": "checkpoint", "time": 100.123, "step": 3, "seconds": 0.1235},
    ]


@pytest.fixture
def optimizer():
    import keras

    return keras.optimizers.SGD(0.1)


def read_events(folder):
    """Returns {(tag, step): value} of the event files of a folder."""
    found = {}
    for path in folder.glob("events.out.tfevents.*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                found[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    return found


def test_tensorboard_gets_each_epoch_under_the_names_of_keras_and_each_few_steps(tmp_path, optimizer):
    scalars = TensorBoardScalars(tmp_path, every_steps=2, optimizer=optimizer)
    for batch in range(3):
        scalars.on_train_batch_end(batch, {"loss": tf.constant(0.5)})
    scalars.on_epoch_end(4, {"loss": 1.5, "val_loss": 0.75, "recalls": [0.25, 0.5]})
    scalars.on_train_end()
    assert read_events(tmp_path / "train") == {
        ("batch_loss", 2): 0.5,
        ("epoch_learning_rate", 4): pytest.approx(0.1),
        ("epoch_loss", 4): 1.5,
    }
    assert read_events(tmp_path / "validation") == {("epoch_loss", 4): 0.75}


def test_logs_become_numbers_and_lists():
    assert plain({"loss": tf.constant(0.5), "rows": [1, 2], "text": 3}) == {"loss": 0.5, "rows": [1, 2], "text": 3}
    assert plain(None) == {}


def test_what_a_users_callback_adds_to_the_logs_is_written_as_text_if_json_has_no_such_type(tmp_path):
    day = datetime.date(2026, 12, 1)
    logs = {
        "loss": 0.5,
        "day": day,
        "ragged": [[1], [1, 2]],
        "set": {1},
        "bytes": b"x",
        3: 1.0,
        "text": "a",
        "no": None,
    }
    texts = {"day": "2026-12-01", "ragged": "[[1], [1, 2]]", "set": "{1}", "bytes": "b'x'"}
    MetricsFile(tmp_path / "metrics.jsonl", clock=clock).on_epoch_end(0, logs)
    place = {"epoch": 1, "step": 0, "time": 100.123}
    assert lines_of(tmp_path / "metrics.jsonl") == [place | {"loss": 0.5, "3": 1.0, "text": "a", "no": None} | texts]
    scalars = TensorBoardScalars(tmp_path)
    scalars.on_epoch_end(0, logs)
    scalars.on_train_end()
    assert read_events(tmp_path / "train") == {("epoch_loss", 0): 0.5, ("epoch_3", 0): 1.0}
