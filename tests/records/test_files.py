"""What a run leaves in its folder, whichever loop trains it."""

import hashlib
import json
import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import jobs

import tfdist
from tfdist.process import faults
from tfdist.run import rundir
from tfdist.synchronous.step.programs import Programs

pytestmark = pytest.mark.slow

PER_EPOCH = 6
FILES = {"best.json", "checkpoints", "config.json", "metrics.jsonl", "model.keras", "summary.json", "tensorboard"}


def fit(strategy, run_dir=None, *, data=None, make_model=jobs.make_mlp, epochs=2, **arguments):
    """Trains 103 rows in six steps an epoch; returns (model, history)."""
    with strategy.scope():
        model = make_model()
    data = jobs.small_source() if data is None else data
    arguments = {"epochs": epochs, "verbose": 0} | arguments
    return model, tfdist.fit(model, data, run_dir=run_dir, **arguments).history


def lines_of(folder):
    """Returns (the lines of events, of steps and of epochs) of a run."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    events = [line for line in lines if "event" in line]
    epochs = [line for line in lines if "epoch" in line]
    return events, [line for line in lines if line not in events and line not in epochs], epochs


def read(folder, name):
    return json.loads((folder / name).read_text())


def names_in(folder):
    return {path.name for path in folder.iterdir()} - {".lock"}


@pytest.fixture(scope="module")
def ended(make_strategy, tmp_path_factory):
    """A run of `fit` on two replicas: (folder, model, history)."""
    folder = tmp_path_factory.mktemp("ended")
    x, y = jobs.make_rows(40, "float32")
    more = {"validation_data": (x, y), "log_every_steps": 4, "checkpoint_every_steps": 3}
    return folder, *fit(make_strategy(2), folder, **more)


@pytest.fixture(scope="module")
def unrecorded(make_strategy, tmp_path_factory):
    """The same run without a folder: (model, history)."""
    x, y = jobs.make_rows(40, "float32")
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("unrecorded"))
    try:
        result = fit(make_strategy(2), validation_data=(x, y))
        assert os.listdir() == []
    finally:
        os.chdir(before)
    return result


def test_a_folder_changes_no_bit_of_the_weights_and_nothing_in_the_history(ended, unrecorded):
    _, model, history = ended
    plain, plain_history = unrecorded
    np.testing.assert_array_equal(jobs.weights_of(model), jobs.weights_of(plain))
    assert history == plain_history


def test_a_folder_adds_no_trace(make_strategy, tmp_path):
    traces = []
    for folder in (None, tmp_path):
        model, _ = fit(make_strategy(1), folder, log_every_steps=4 if folder else None)
        programs = Programs.of(model)._programs
        traces.append(sum(program.traced.traces for key, program in programs.items() if key[0] == "train"))
    assert traces == [1, 1]


def test_fit_leaves_what_the_command_leaves(ended):
    folder, model, history = ended
    assert names_in(folder) == FILES
    summary = read(folder, "summary.json")
    assert summary["metrics"] == {name: values[-1] for name, values in history.items()}
    assert (summary["steps"], summary["replicas"], summary["finished"]) == (2 * PER_EPOCH, 2, True)
    assert summary["examples_per_second"] > 0
    saved = keras.saving.load_model(folder / "model.keras")
    digest = hashlib.sha256(b"".join(weight.numpy().tobytes() for weight in saved.weights))
    assert summary["weights_sha256"] == digest.hexdigest()
    np.testing.assert_array_equal(jobs.weights_of(saved), jobs.weights_of(model))


def test_the_lines_of_epochs_have_the_logs_their_place_and_where_the_time_went(ended):
    folder, _, history = ended
    _, _, epochs = lines_of(folder)
    assert [(line["epoch"], line["step"], line["learning_rate"]) for line in epochs] == [(1, 6, 0.2), (2, 12, 0.2)]
    for name, values in history.items():
        assert [line[name] for line in epochs] == values
    assert all(line["examples_per_second"] > 0 and line["step_seconds"] > 0 for line in epochs)
    assert [[each["worker"] for each in line["workers"]] for line in epochs] == [[0], [0]]
    for line in epochs:
        assert set(line["seconds"]) == {"training", "input", "checkpoint", "validation"}
        assert line["seconds"]["input"] <= line["seconds"]["training"]


def test_the_lines_of_steps_are_those_of_the_multiples_with_the_metrics_since_the_epoch_began(ended):
    folder, _, history = ended
    _, steps, _ = lines_of(folder)
    assert [line["step"] for line in steps] == [4, 8, 12]
    assert set(steps[1]) == {"step", "time", "learning_rate", "accuracy", "loss", "examples_per_second"}
    assert steps[2]["loss"] == history["loss"][1]
    assert steps[0]["loss"] != history["loss"][0]


def test_the_lines_of_events_say_when_it_began_saved_and_ended(ended):
    folder, _, _ = ended
    events, _, _ = lines_of(folder)
    first, *saves, last = events
    assert first["began"] <= first["time"] <= last["time"]
    about = {name: first[name] for name in first if name not in ("time", "began")}
    length = {"epochs": 2, "steps_per_epoch": PER_EPOCH}
    assert about == {"event": "start", "step": 0, "attempt": 0, "workers": 1, "replicas": 2, **length}
    assert [(line["event"], line["step"]) for line in saves] == [("checkpoint", step) for step in (3, 6, 9, 12)]
    assert all(line["seconds"] > 0 for line in saves)
    assert (last["event"], last["step"], last["reason"]) == ("end", 2 * PER_EPOCH, "finished")


def test_a_run_that_is_finished_says_so_and_changes_no_file(make_strategy, ended, caplog):
    folder, model, history = ended
    written = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    x, y = jobs.make_rows(40, "float32")
    with caplog.at_level("INFO", "tfdist"):
        again, known = fit(make_strategy(2), folder, validation_data=(x, y))
    assert (
        "nothing is left to train. To train on, give more epochs; to train anew, give another run_dir." in caplog.text
    )
    assert {path: path.stat().st_mtime_ns for path in written} == written
    np.testing.assert_array_equal(jobs.weights_of(again), jobs.weights_of(model))
    assert known == history


def test_a_run_whose_results_were_not_yet_written_writes_them(make_strategy, tmp_path):
    model, history = fit(make_strategy(1), tmp_path)
    first = read(tmp_path, "summary.json")
    for name in ("summary.json", "model.keras"):
        (tmp_path / name).unlink()
    fit(make_strategy(1), tmp_path)
    after = read(tmp_path, "summary.json")
    for name in ("metrics", "steps", "weights_sha256", "finished"):
        assert after[name] == first[name]
    assert after["metrics"] == {name: values[-1] for name, values in history.items()}
    np.testing.assert_array_equal(
        jobs.weights_of(keras.saving.load_model(tmp_path / "model.keras")), jobs.weights_of(model)
    )


class Ends(keras.callbacks.Callback):
    """Ends a run after its first epoch, in one of the ways that there are."""

    def __init__(self, way):
        super().__init__()
        self.way = way

    def on_epoch_end(self, epoch, logs=None):
        if self.way == "stop_training":
            self.model.stop_training = True
        elif self.way == "failure":
            raise ValueError("first line\nsecond line")
        else:
            os.kill(os.getpid(), signal.Signals[self.way])


ENDS = {
    "stop_training": (None, "stopped", "stop_training"),
    "failure": (ValueError, "failed", "ValueError: first line"),
    "SIGTERM": (SystemExit, "stopped", "SIGTERM"),
    "SIGINT": (KeyboardInterrupt, "stopped", "SIGINT"),
}


@pytest.mark.parametrize("way", ENDS)
def test_a_run_that_ends_early_says_why_and_a_resumed_one_where_it_goes_on(make_strategy, tmp_path, way):
    error, reason, cause = ENDS[way]
    if error:
        with pytest.raises(error):
            fit(make_strategy(1), tmp_path, callbacks=[Ends(way)])
        assert not (tmp_path / "summary.json").exists()
    else:
        fit(make_strategy(1), tmp_path, callbacks=[Ends(way)])
        assert read(tmp_path, "summary.json")["finished"] is False
    events, _, _ = lines_of(tmp_path)
    assert (events[-1]["event"], events[-1]["reason"], events[-1]["cause"]) == ("end", reason, cause)
    assert events[-1]["step"] == PER_EPOCH
    fit(make_strategy(1), tmp_path)
    events, _, _ = lines_of(tmp_path)
    # A failure saves nothing.
    steps = [line["step"] for line in events if line["event"] == "start"]
    assert steps == [0, 0 if way == "failure" else PER_EPOCH]
    assert read(tmp_path, "summary.json")["finished"] is True


def test_a_run_that_is_stopped_after_its_last_step_is_finished(make_strategy, tmp_path):
    fit(make_strategy(1), tmp_path, epochs=1, callbacks=[Ends("stop_training")])
    events, _, _ = lines_of(tmp_path)
    assert (events[-1]["reason"], "cause" in events[-1]) == ("finished", False)
    assert read(tmp_path, "summary.json")["finished"] is True


def test_a_loop_that_takes_no_batch_leaves_nothing(make_strategy, tmp_path):
    with make_strategy(1).scope():
        model, optimizer = jobs.make_mlp(), keras.optimizers.SGD(0.2)
    with tfdist.open_run(tmp_path, model, optimizer, jobs.small_source()):
        pass
    assert names_in(tmp_path) == set()


def test_a_run_that_early_stopping_ended_is_finished(make_strategy, tmp_path):
    patient = keras.callbacks.EarlyStopping("loss", mode="max", patience=1)
    fit(make_strategy(1), tmp_path, epochs=9, callbacks=[patient])
    events, _, epochs = lines_of(tmp_path)
    assert (events[-1]["reason"], events[-1]["cause"], len(epochs)) == ("stopped", "EarlyStopping", 2)
    assert read(tmp_path, "summary.json")["finished"] is True


def test_after_a_restart_the_line_of_the_start_has_its_cause(make_strategy, tmp_path, monkeypatch):
    cause = {"kind": "failure", "cause": "worker 1 was killed by SIGKILL", "failed": 123.5}
    record = tmp_path / "launch.json"
    record.write_text(json.dumps([{"kind": "early", "cause": "an earlier one", "workers": 2}, cause | {"workers": 2}]))
    monkeypatch.setenv(rundir.RESTARTS, str(record))
    monkeypatch.setenv(faults.ATTEMPT, "2")
    fit(make_strategy(1), tmp_path / "run")
    events, _, _ = lines_of(tmp_path / "run")
    assert {name: events[0][name] for name in ("attempt", *cause)} == {"attempt": 2, **cause}
    assert [each["failed"] for each in read(tmp_path / "run", "summary.json")["restarts"]] == [None, 123.5]


class Unsavable(keras.layers.Layer):
    """A layer that Keras cannot save."""

    def call(self, x):
        return x

    def get_config(self):
        raise NotImplementedError("no config\nhere")


def make_unsavable():
    model = keras.Sequential([keras.Input((jobs.WIDTH,)), keras.layers.Dense(jobs.CLASSES, "softmax"), Unsavable()])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def test_a_model_that_keras_cannot_save_ends_no_run(make_strategy, tmp_path, caplog):
    fit(make_strategy(1), tmp_path, make_model=make_unsavable)
    assert (
        "model.keras is not written, because Keras cannot save this model (NotImplementedError: no config). The "
        in caplog.text
    )
    assert names_in(tmp_path) == FILES - {"model.keras"}
    assert read(tmp_path, "summary.json")["finished"] is True


class Listening(keras.callbacks.Callback):
    """Keeps the names of the logs at the ends of epochs and of the training."""

    def on_epoch_end(self, epoch, logs=None):
        self.of_epoch = set(logs)

    def on_train_end(self, logs=None):
        self.of_training = set(logs)


def test_logs_that_json_cannot_hold_end_no_run_and_change_no_weight(make_strategy, tmp_path):
    class Notes(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs |= {"set": {1}, "ragged": [[1], [1, 2]]}

    model, history = fit(make_strategy(1), tmp_path / "run", callbacks=[Notes()])
    plain, _ = fit(make_strategy(1))
    np.testing.assert_array_equal(jobs.weights_of(model), jobs.weights_of(plain))
    assert history["set"] == [{1}, {1}]
    for metrics in (lines_of(tmp_path / "run")[2][-1], read(tmp_path / "run", "summary.json")["metrics"]):
        assert (metrics["set"], metrics["ragged"]) == ("{1}", "[[1], [1, 2]]")


def test_the_users_callbacks_see_the_logs_of_keras(make_strategy, tmp_path):
    listening = Listening()
    fit(make_strategy(1), tmp_path, callbacks=[listening])
    assert listening.of_epoch == listening.of_training == {"accuracy", "loss"}


def test_the_rows_of_batches_of_unknown_size_are_counted(make_strategy, tmp_path):
    rows = []

    class Counting(tfdist.training.fit_files.RowCount):
        def __call__(self, first, steps):
            rows.append(super().__call__(first, steps))
            return rows[-1]

    data = tf.data.Dataset.from_tensor_slices(jobs.make_rows(dtype="float32")).batch(20).filter(lambda x, y: True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfdist.training.fit_files, "RowCount", Counting)
        fit(make_strategy(2), tmp_path, data=data, steps_per_execution=2)
    assert rows == [40, 40, 23, 40, 40, 23]
    _, _, epochs = lines_of(tmp_path)
    assert all(line["examples_per_second"] > 0 for line in epochs)


def test_lines_of_steps_are_shown_with_verbose_2(make_strategy, capsys):
    fit(make_strategy(1), log_every_steps=4, verbose=2)
    shown = [line.split("  loss")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    assert shown == ["epoch 1/2  step 4/6", "epoch 2/2  step 2/6"]


def test_a_loop_written_by_hand_leaves_the_same(make_strategy, tmp_path, capsys):
    strategy = make_strategy(2)
    with strategy.scope():
        model, optimizer = jobs.make_mlp(), keras.optimizers.SGD(0.2)
    loss_fn = keras.losses.SparseCategoricalCrossentropy(reduction=None)

    @tf.function(reduce_retracing=True)
    def train_step(x, y):
        with tf.GradientTape() as tape:
            loss = tfdist.global_mean(loss_fn(y, model(x, training=True)))
        weights = model.trainable_variables
        tfdist.apply_gradients(optimizer, tape.gradient(loss, weights), weights)
        return loss

    source = jobs.small_source()
    losses = []
    with tfdist.open_run(tmp_path, model, optimizer, source, log_every_steps=4) as run:
        for x, y in run.batches(epochs=2):
            losses.append(float(strategy.experimental_local_results(strategy.run(train_step, args=(x, y)))[0]))
            run.log(loss=losses[-1])
    assert names_in(tmp_path) == FILES
    events, steps, epochs = lines_of(tmp_path)
    assert [line["event"] for line in events] == ["start", "checkpoint", "checkpoint", "end"]
    assert (events[0]["epochs"], events[-1]["reason"]) == (2, "finished")
    assert [(line["step"], line["loss"]) for line in steps] == [(step, losses[step - 1]) for step in (4, 8, 12)]
    assert [(line["epoch"], line["step"], line["learning_rate"]) for line in epochs] == [(1, 6, 0.2), (2, 12, 0.2)]
    summary = read(tmp_path, "summary.json")
    assert (summary["metrics"], summary["steps"], summary["finished"]) == ({"loss": losses[-1]}, 12, True)
    assert read(tmp_path, "config.json")["made_by"] == "tfdist.open_run"
    shown = [line.split("  loss")[0] for line in capsys.readouterr().out.splitlines()]
    assert shown == ["epoch 1/2  step 4/6", "epoch 2/2  step 2/6"]
