"""The workers' reports, against known delays."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import jobs
from support.slow import make_model, slow_batches
from support.worker_jobs.report import report_of_a_slow_worker

import tfdist
from tfdist.callbacks.report import Report

pytestmark = [pytest.mark.core, pytest.mark.slow]

DELAY = 0.05


def report_of(strategy, data, *, make=make_model, epochs=1, **arguments):
    """Trains, and returns (the report, the history)."""
    with strategy.scope():
        model = make()
        for name, value in arguments.items():
            setattr(model, name, value)
    report = Report(strategy)
    history = tfdist.fit(model, data, epochs=epochs, verbose=0, callbacks=[report])
    return report, history.history


class OwnStep(keras.Sequential):
    """A model with a `train_step` of its own."""

    def train_step(self, data):
        return super().train_step(data)


def make_own():
    model = OwnStep([keras.Input((jobs.WIDTH,)), keras.layers.Dense(3, activation="softmax")])
    model.compile(keras.optimizers.SGD(0.1), loss="sparse_categorical_crossentropy")
    return model


def make_embedding(width=5, **arguments):
    layers = [keras.Input((2,), dtype="int32"), keras.layers.Embedding(10, width, name="words"), keras.layers.Flatten()]
    model = keras.Sequential([*layers, keras.layers.Dense(3, activation="softmax")])
    model.compile(keras.optimizers.SGD(0.1, **arguments), loss="sparse_categorical_crossentropy")
    return model


@pytest.mark.parametrize(
    ("replicas", "make", "arguments"),
    [
        (1, make_model, {}),
        (2, make_model, {}),
        (1, make_model, {"steps_per_execution": 1}),
        (1, make_model, {"run_eagerly": True}),
        (2, make_own, {}),
    ],
)
def test_a_slow_input_is_measured_as_waiting(make_strategy, replicas, make, arguments):
    strategy = make_strategy(replicas)
    report, history = report_of(strategy, slow_batches(DELAY), make=make, **arguments)
    (timing,) = report.timings
    assert timing.input_seconds > DELAY / 2
    assert timing.input_share > 0.5
    assert timing.step_seconds >= 0.9 * DELAY
    assert not timing.own_seconds > DELAY / 2
    assert history["input_share"] == [pytest.approx(timing.input_share, rel=1e-3)]


@pytest.mark.parametrize("arguments", [{}, {"steps_per_execution": 1}, {"run_eagerly": True}])
def test_a_slow_model_is_measured_as_own_work(make_strategy, arguments):
    report, _ = report_of(make_strategy(1), slow_batches(0.0), make=lambda: make_model(DELAY), **arguments)
    (timing,) = report.timings
    assert timing.own_seconds > 0.9 * DELAY
    assert timing.input_share < 0.5
    assert timing.step_seconds > 0.9 * DELAY


def test_input_that_is_made_while_the_model_works_is_not_waited_for(make_strategy):
    data = slow_batches(DELAY).prefetch(2)
    report, _ = report_of(make_strategy(1), data, make=lambda: make_model(2 * DELAY))
    (timing,) = report.timings
    assert timing.input_share < 0.25
    assert timing.own_seconds > 1.8 * DELAY


def test_a_train_step_of_the_users_own_keeps_its_gradients_time_to_itself(make_strategy):
    report, history = report_of(make_strategy(2), slow_batches(0.0), make=make_own)
    assert np.isnan(report.timings[0].own_seconds)
    assert "own_seconds" not in report.summary()["workers"][0]
    # A kernel (4, 3) and a bias (3,) in float32.
    assert history["bytes_reduced_per_step"] == [4.0 * (12 + 3)]


def test_the_bytes_of_a_reduction_are_those_of_the_gradients(make_strategy):
    for replicas, sent in ((1, 0.0), (2, 4.0 * (12 + 3)), (3, 4.0 * (12 + 3))):
        report, history = report_of(make_strategy(replicas), slow_batches(0.0))
        assert history["bytes_reduced_per_step"] == [sent]
        assert report.summary()["bytes_reduced_per_step"] == sent


def words(rows=48, batch=8):
    x = np.arange(2 * rows).reshape(rows, 2) % 10
    return tf.data.Dataset.from_tensor_slices((x.astype("int32"), np.zeros(rows, "int32"))).batch(batch)


def test_promise_36_indexed_slices_are_counted_by_the_rows_they_touch_and_told_once(make_strategy, caplog):
    for _ in range(2):
        caplog.clear()
        _, history = report_of(make_strategy(2), words(), make=make_embedding, epochs=3)
        # 4 rows a replica of 2 words: values (8, 5) in float32 and 8 indices in int32; kernel (10, 3), bias (3,).
        assert history["bytes_reduced_per_step"] == [4.0 * (40 + 8 + 33)] * 3
        assert caplog.text.count("words/embeddings is IndexedSlices") == 1
    caplog.clear()
    report_of(make_strategy(1), words(), make=make_embedding)
    assert "IndexedSlices" not in caplog.text


def test_accumulated_gradients_are_reduced_dense_once_in_so_many_steps(make_strategy, caplog):
    make = lambda: make_embedding(gradient_accumulation_steps=2)  # noqa: E731
    _, history = report_of(make_strategy(2), words(), make=make)
    assert history["bytes_reduced_per_step"] == [4.0 * (50 + 33) / 2]
    assert "IndexedSlices" not in caplog.text


def test_promise_36_a_training_that_waits_for_input_is_told_once(make_strategy, caplog):
    report_of(make_strategy(1), slow_batches(DELAY, batches=6), epochs=3)
    assert caplog.text.count("the training waits for input") == 1


@pytest.mark.parametrize("measured", [False, True])
def test_the_step_has_a_clock_only_with_a_measurement_hook(make_strategy, monkeypatch, measured):
    read = []
    timestamp = tf.timestamp
    monkeypatch.setattr(tf, "timestamp", lambda: read.append("traced") or timestamp())
    strategy = make_strategy(2)
    with strategy.scope():
        model = make_model()
    callbacks = [Report(strategy)] if measured else []
    tfdist.fit(model, slow_batches(0.0), verbose=0, callbacks=callbacks)
    assert bool(read) == measured
    before = len(read)
    # A second fit traces nothing again.
    tfdist.fit(model, slow_batches(0.0), verbose=0, callbacks=callbacks)
    assert len(read) == before


def test_files_and_tensorboard_have_the_numbers(make_strategy, tmp_path):
    from tfdist.train import command as train

    flags = ["--model=mlp", "--strategy=mirrored", "--epochs=2", f"--run_dir={tmp_path}"]
    assert train.main(flags) == 0
    every = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in every if "epoch" in line]
    scalars = {"step_seconds", "step_spread", "input_share", "bytes_reduced_per_step"}
    rates = {"examples_per_second", "examples_per_second_per_replica"}
    for line in lines:
        assert scalars | rates < set(line)
        assert line["examples_per_second_per_replica"] == pytest.approx(line["examples_per_second"] / 2, abs=0.06)
        assert set(line["workers"][0]) == {"worker", "step_seconds", "step_spread", "own_seconds", "input_share"}
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["bytes_reduced_per_step"] == lines[0]["bytes_reduced_per_step"] > 0
    assert [worker["worker"] for worker in summary["workers"]] == [0]
    assert {f"epoch_{name}" for name in scalars | rates} <= tags_of(tmp_path / "tensorboard" / "train")


def tags_of(folder):
    (events,) = folder.glob("events.*")
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(events))]
    return {value.tag for record in records for value in tf.compat.v1.Event.FromString(record).summary.value}


@pytest.mark.parametrize("kind", ["input", "model"])
def test_promise_36_among_workers_the_slow_one_is_named(two_workers, kind):
    chief, other = two_workers(report_of_a_slow_worker, kind)
    history, summary = chief.value
    assert other.value[0]["slowest_worker"] == history["slowest_worker"] == [1.0, 1.0]
    assert other.value[1] == summary
    fast, slow = summary["workers"]
    assert fast["input_share"] < 0.2
    assert fast["own_seconds"] < 0.03
    if kind == "model":
        assert slow["own_seconds"] > 0.055
        assert slow["input_share"] < 0.5
    else:
        assert slow["input_share"] > 0.5
    # Whole steps take the same time on both: only their own measurements differ.
    assert fast["step_seconds"] > 0.03
    assert sum("worker 1 is the slowest" in line for line in chief.said.splitlines()) == 1
    assert ("worker 1 waits for input" in chief.said) == (kind == "input")
    assert "is the slowest" not in other.said


def test_batches_without_weights_are_measured_too(make_strategy):
    def batches():
        for _ in range(6):
            x, y = jobs.make_rows(8, "float32")
            yield x, y, None

    _, history = report_of(make_strategy(2), batches())
    assert history["step_seconds"][0] > 0
