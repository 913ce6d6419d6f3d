"""A run that was stopped and goes on ends as the run that was never stopped."""

import contextlib
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import jobs
from support.worker_jobs.resume import stop_and_go_on

import tfdist
from tfdist.callbacks.base import Callback
from tfdist.checkpoints import checkpoint
from tfdist.checkpoints.checkpoint import CheckpointError
from tfdist.data.sources.arrays import from_arrays
from tfdist.run import manifest
from tfdist.run.rundir import RunDir

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("cpus")]

# Seven steps an epoch, the last one of five rows.
ROWS, BATCH, PER_EPOCH = 53, 8, 7


class StoppedError(Exception):
    """The end of a run that is stopped."""


class StopAfter(Callback):
    """Ends a run without a notice, after so many steps are done and everything due is saved."""

    def __init__(self, step):
        super().__init__()
        self._last = step

    def on_train_batch_begin(self, batch, logs=None):
        if self.steps_before + batch == self._last:
            raise StoppedError


def make_source(**order):
    x, y = jobs.make_rows(ROWS, keras.config.floatx())
    return from_arrays(x, y, **({"global_batch": BATCH, "seed": 5} | order))


def adam(**options):
    return keras.optimizers.Adam(0.02, **options)


OPTIMIZERS = {
    "adam": adam,
    "ema": lambda: adam(use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=4),
    "accumulation": lambda: adam(gradient_accumulation_steps=3),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(adam(), dynamic_growth_steps=3),
}


@contextlib.contextmanager
def policy(name):
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy("float32")


def make_model(optimizer=adam, *, dropout=0.3, units=8):
    keras.utils.set_random_seed(7)
    model = keras.Sequential(
        [
            keras.Input((jobs.WIDTH,)),
            keras.layers.Dense(units, "tanh"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(dropout),
            keras.layers.Dense(jobs.CLASSES, "softmax", dtype=keras.config.floatx()),
        ]
    )
    model.compile(optimizer(), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def build(strategy, make=make_model):
    with strategy.scope():
        model = make()
        model.optimizer.build(model.trainable_variables)
    return model


def train(where, *, epochs=3, source=None, make=make_model, **arguments):
    """Trains a model, or a new one on a strategy; returns (model, history)."""
    model = where if isinstance(where, keras.Model) else build(where, make)
    length = {} if "steps" in arguments else {"epochs": epochs}
    history = tfdist.fit(model, source or make_source(), verbose=0, **length, **arguments)
    return model, history.history


def stop(where, run_dir, *, at, every=1, callbacks=(), **arguments):
    """Trains until step `at`, and stops there."""
    arguments |= {"run_dir": run_dir, "checkpoint_every_steps": every, "callbacks": [*callbacks, StopAfter(at)]}
    with contextlib.suppress(StoppedError):
        train(where, **arguments)
        raise AssertionError("the run was not stopped")


def resume(where, run_dir, **arguments):
    return train(where, run_dir=run_dir, resume="must", **arguments)


def state(model):
    return [np.asarray(variable) for variable in checkpoint.variables_of(model)]


def assert_same(mine, theirs):
    """Holds (model or its state, history) of a resumed run against the undisturbed run's, bit by bit."""
    states = [state(one) if isinstance(one, keras.Model) else one for one, _ in (mine, theirs)]
    for one, other in zip(*states, strict=True):
        np.testing.assert_array_equal(one, other)
    # Also of the epochs that an earlier process trained.
    assert mine[1] == theirs[1]


class Reused:
    """One model for many runs, since tracing it takes longest; each run begins with the same or with odd values."""

    def __init__(self, strategy, make):
        self._model = build(strategy, make)
        self._first = state(self._model)

    def new(self):
        for variable, value in zip(checkpoint.variables_of(self._model), self._first, strict=True):
            variable.assign(value)
        return self._model

    def odd(self):
        for variable in checkpoint.variables_of(self._model):
            variable.assign(np.asarray(variable) + np.ones((), variable.dtype))
        return self._model

    def train(self, **arguments):
        model, history = train(self.new(), **arguments)
        return state(model), history


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_promise_30_a_run_stopped_anywhere_ends_with_the_very_weights(make_strategy, tmp_path, optimizer, replicas):
    with policy("mixed_float16" if optimizer == "loss scale" else "float32"):
        run = Reused(make_strategy(replicas), lambda: make_model(OPTIMIZERS[optimizer]))
        whole = run.train()
        # In the first epoch, at the end of one, in a later one; after 4 and 10 steps gradients wait for their update.
        for at, every in [(4, 2), (PER_EPOCH, 7), (12, 5)]:
            stop(run.new(), tmp_path / str(at), at=at, every=every)
            resumed = resume(run.odd(), tmp_path / str(at))
            assert_same(resumed, whole)


@pytest.mark.slow
def test_promise_30_a_new_process_needs_nothing_but_the_folder(make_strategy, tmp_path):
    arguments = {"make": lambda: make_model(OPTIMIZERS["accumulation"]), "validation_data": make_source()}
    whole = train(make_strategy(2), **arguments)
    stop(make_strategy(2), tmp_path, at=10, **arguments)
    assert_same(resume(make_strategy(2), tmp_path, **arguments), whole)


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), [(2, 1), (1, 2), (2, 3)])
def test_promise_30_another_number_of_replicas_goes_on(make_strategy, tmp_path, float64, first, second):
    def make():
        return make_model(OPTIMIZERS["accumulation"], dropout=0.0)

    model, history = train(make_strategy(first), make=make)
    stop(make_strategy(first), tmp_path, at=10, every=5, make=make)
    resumed, rest = resume(make_strategy(second), tmp_path, make=make)
    np.testing.assert_allclose(jobs.weights_of(resumed), jobs.weights_of(model), rtol=0, atol=1e-9)
    for name, values in rest.items():
        np.testing.assert_allclose(values, history[name], rtol=1e-6, err_msg=name)


@pytest.mark.slow
def test_promise_30_a_run_of_so_many_steps_is_a_part_of_a_longer_one(make_strategy, tmp_path):
    run, arguments = Reused(make_strategy(2), make_model), {"validation_data": make_source()}
    whole = run.train(**arguments)
    for steps in (5, 2 * PER_EPOCH + 3):
        train(run.new(), steps=steps, run_dir=tmp_path / str(steps), **arguments)
        assert_same(resume(run.odd(), tmp_path / str(steps), **arguments), whole)


def batches(rows=ROWS, dtype="float32"):
    return tf.data.Dataset.from_tensor_slices(jobs.make_rows(rows, dtype)).batch(BATCH)


@pytest.mark.slow
def test_promise_30_data_of_unknown_length_go_on_at_the_end_of_an_epoch(make_strategy, tmp_path):
    run, arguments = Reused(make_strategy(2), make_model), {"source": batches().filter(lambda x, y: True)}
    whole = run.train(**arguments)
    train(run.new(), epochs=1, run_dir=tmp_path, checkpoint_every_steps=PER_EPOCH, **arguments)
    assert_same(resume(run.odd(), tmp_path, **arguments), whole)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:x. the data ended after 3 batches:UserWarning")
def test_promise_30_epochs_that_the_data_cut_short_are_counted_rightly(make_strategy, tmp_path):
    # Epochs of 4 and 3 steps in turn.
    run, arguments = Reused(make_strategy(1), make_model), {"source": batches(), "steps_per_epoch": 4, "epochs": 6}
    whole = run.train(**arguments)
    stop(run.new(), tmp_path, at=14, every=20, **arguments)
    assert RunDir(tmp_path).checkpoint_steps() == [7, 11, 14]
    assert_same(resume(run.odd(), tmp_path, **arguments), whole)


class Remembering(keras.callbacks.Callback):
    """A user's own callback with state."""

    def on_train_begin(self, logs=None):
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append((batch, logs["loss"]))

    def get_state(self):
        return {"seen": self.seen, "array": np.arange(3, dtype="int8"), "number": np.float32(0.5)}

    def set_state(self, state):
        assert state["array"].dtype == "int8"
        assert state["number"] == 0.5
        self.seen = [tuple(item) for item in state["seen"]]


def make_callbacks(folder):
    return [
        keras.callbacks.EarlyStopping("loss", patience=2, min_delta=0.05, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1, min_delta=0.2),
        keras.callbacks.ReduceLROnPlateau("loss", factor=0.7, patience=2, min_delta=0.2, cooldown=1),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
        keras.callbacks.ModelCheckpoint(str(folder / "{epoch}.weights.h5"), "loss", 0, True, True),
        Remembering(),
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`save_best_only`:UserWarning")
@pytest.mark.parametrize("replicas", [1, 2])
def test_promise_30_callbacks_decide_as_if_nothing_had_happened(make_strategy, tmp_path, replicas):
    run, run_dir = Reused(make_strategy(replicas), make_model), tmp_path / "run"
    arguments = {"epochs": 12, "validation_data": make_source()}
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    callbacks = make_callbacks(tmp_path / "whole")
    whole = run.train(callbacks=callbacks, **arguments)
    assert 3 < len(whole[1]["loss"]) < 12
    model = run.new()
    for at in (10, 3 * PER_EPOCH):
        mine = make_callbacks(tmp_path / "parts")
        stop(model, run_dir, at=at, callbacks=mine, **arguments)
        assert mine[-1].seen == callbacks[-1].seen[: len(mine[-1].seen)]
        model = run.odd()
    mine = make_callbacks(tmp_path / "parts")
    assert_same(resume(model, run_dir, callbacks=mine, **arguments), whole)
    assert mine[-1].seen == callbacks[-1].seen
    for one, other in zip(mine[:-1], callbacks[:-1], strict=True):
        for attribute in ("best", "wait", "stopped_epoch", "best_epoch", "cooldown_counter"):
            assert getattr(one, attribute, None) == getattr(other, attribute, None)
    saved = [sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("whole", "parts")]
    assert saved[0] == saved[1] != []
    # It was over, and stays so.
    assert_same(resume(run.odd(), run_dir, callbacks=make_callbacks(tmp_path / "parts"), **arguments), whole)


@pytest.mark.slow
def test_promise_30_weights_swapped_for_their_averages_are_swapped_back(make_strategy, tmp_path):
    def callbacks():
        return [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)]

    run = Reused(make_strategy(1), lambda: make_model(lambda: adam(use_ema=True, ema_momentum=0.9)))
    whole = run.train(callbacks=callbacks())
    stop(run.new(), tmp_path, at=PER_EPOCH, every=30, callbacks=callbacks())
    assert_same(resume(run.odd(), tmp_path, callbacks=callbacks()), whole)


@pytest.fixture(scope="module")
def stopped_once(cpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped")
    stop(tf.distribute.OneDeviceStrategy(cpus[0]), folder, at=9)
    return folder


@pytest.fixture
def stopped(stopped_once, tmp_path):
    """The folder of a run of one device that was stopped after step 9."""
    return shutil.copytree(stopped_once, tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"global_batch": 9}, "the data differ in global_batch: 8 in the checkpoint, 9 now."),
        ({"seed": 6}, "the data differ in seed: 5 in the checkpoint, 6 now."),
        ({"shuffle": False}, "the data differ in shuffle: True in the checkpoint, False now."),
        ({"name": "others"}, "the data differ in name: 'arrays' in the checkpoint, 'others' now."),
        ({"drop_remainder": True}, "the data differ in drop_remainder: False in the checkpoint, True now."),
    ],
)
def test_other_data_under_a_checkpoint_are_refused(make_strategy, stopped, changes, difference):
    with pytest.raises(CheckpointError) as error:
        resume(make_strategy(1), stopped, source=make_source(**changes))
    assert str(error.value) == (
        f"checkpoint {RunDir(stopped).checkpoint(9)}: {difference} Use what wrote it, or another run_dir. If you mean "
        "the change, use resume_with_changes."
    )


def test_more_rows_other_types_and_other_epochs_are_refused(make_strategy, stopped):
    x, y = jobs.make_rows(ROWS + 1, "float32")
    for source, difference in [
        (from_arrays(x, y, global_batch=BATCH, seed=5), "the data differ in rows: 53 in the checkpoint, 54 now; "),
        (
            from_arrays(x[1:], y[1:].astype("int64"), global_batch=BATCH, seed=5),
            "the data differ in types: ['float32 (4,)', 'int32 ()'] in the checkpoint, "
            "['float32 (4,)', 'int64 ()'] now; the data differ in the values of some rows: ",
        ),
    ]:
        with pytest.raises(CheckpointError) as error:
            resume(make_strategy(1), stopped, source=source)
        assert difference in str(error.value)
    with pytest.raises(CheckpointError, match="the data differ in steps_per_epoch: None in the checkpoint, 3 now"):
        resume(make_strategy(1), stopped, steps_per_epoch=3)


@pytest.mark.slow
def test_batches_of_the_users_own_are_known_by_their_number_and_types(make_strategy, tmp_path):
    train(make_strategy(1), source=batches(), epochs=1, run_dir=tmp_path)
    with pytest.raises(CheckpointError, match="the data differ in batches: 7 in the checkpoint, 3 now"):
        resume(make_strategy(1), tmp_path, source=batches(20))
    with pytest.raises(CheckpointError, match=r"the data differ in types: .'float32 \(4,\)'"):
        resume(make_strategy(1), tmp_path, source=batches(dtype="float64"))


def test_another_model_is_refused(make_strategy, stopped):
    with pytest.raises(CheckpointError, match=r"/kernel float32\(4, 8\) where this run has .*float32\(4, 9\)\."):
        resume(make_strategy(1), stopped, make=lambda: make_model(units=9))


def test_what_may_change_does(make_strategy, stopped, caplog):
    def make():
        model = make_model()
        model.steps_per_execution = 4
        return model

    resume(make_strategy(2), stopped, make=make, callbacks=[keras.callbacks.TerminateOnNaN()], epochs=4)
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


def make_other(**changes):
    """Makes the model with another setting, and equal variables."""
    make = {
        "rate": 0.02,
        "beta_1": 0.9,
        "activation": "tanh",
        "dropout": 0.3,
        "loss": "sparse_categorical_crossentropy",
    }
    make |= changes
    model = make_model(lambda: keras.optimizers.Adam(make["rate"], beta_1=make["beta_1"]), dropout=make["dropout"])
    model.layers[0].activation = keras.activations.get(make["activation"])
    model.compile(model.optimizer, make["loss"], metrics=["accuracy"])
    return model


CHANGES = [
    ({"rate": 0.05}, "the run differs in learning_rate: 0.02 in the checkpoint, 0.05 now"),
    ({"beta_1": 0.8}, "the run differs in optimizer.beta_1: 0.9 in the checkpoint, 0.8 now"),
    ({"activation": "relu"}, "dense.activation: 'tanh' in the checkpoint, 'relu' now"),
    ({"dropout": 0.4}, "dropout.rate: 0.3 in the checkpoint, 0.4 now"),
    ({"loss": keras.losses.SparseCategoricalCrossentropy()}, "the run differs in loss"),
]


@pytest.mark.parametrize(("changes", "difference"), CHANGES, ids=[next(iter(one)) for one, _ in CHANGES])
def test_another_setting_is_refused_by_name_unless_it_is_meant(make_strategy, stopped, changes, difference, caplog):
    with pytest.raises(CheckpointError) as error:
        resume(make_strategy(1), stopped, make=lambda: make_other(**changes))
    assert difference in str(error.value)
    assert str(error.value).endswith("If you mean the change, use resume_with_changes.")
    if "rate" in changes:
        rates = []
        look = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: rates.append(look.model.optimizer.learning_rate)
        )
        resume(
            make_strategy(1), stopped, make=lambda: make_other(**changes), resume_with_changes=True, callbacks=[look]
        )
        assert difference in caplog.text
        np.testing.assert_allclose([*map(np.asarray, rates)], 0.05, rtol=1e-6)
        # It is the rate of this run from here on.
        resume(make_strategy(1), stopped, make=lambda: make_other(**changes), epochs=4)


def test_every_difference_is_named(make_strategy, stopped):
    with pytest.raises(CheckpointError) as error:
        resume(make_strategy(1), stopped, make=lambda: make_other(rate=0.05), source=make_source(seed=6))
    assert str(error.value) == (
        f"checkpoint {RunDir(stopped).checkpoint(9)}: the data differ in seed: 5 in the checkpoint, 6 now; the run "
        "differs in learning_rate: 0.02 in the checkpoint, 0.05 now. Use what wrote it, or another run_dir. If you "
        "mean the change, use resume_with_changes."
    )


@pytest.mark.parametrize("batch", [4, 12, 64], ids=["smaller", "no multiple", "larger than what is done"])
def test_with_another_batch_size_that_is_meant_the_run_goes_on_at_the_same_row(make_strategy, tmp_path, batch):
    stop(make_strategy(1), tmp_path, at=9, make=jobs.make_mlp)
    other = {"source": make_source(global_batch=batch), "resume_with_changes": True}
    steps = []
    count = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: steps.append(epoch))
    model, _ = resume(make_strategy(1), tmp_path, make=jobs.make_mlp, callbacks=[count], **other)
    # Keras itself on the same batches: nine steps of eight rows, then from the 16th row of the second epoch, rounded
    # down to a whole batch.
    plain, plan = jobs.make_mlp(), other["source"].plan
    x, y = jobs.make_rows(ROWS, "float32")
    for epoch, size, first, last in [
        (0, 8, 0, 53),
        (1, 8, 0, 16),
        (1, batch, 16 // batch * batch, 53),
        (2, batch, 0, 53),
    ]:
        for start in range(first, last, size):
            rows = plan.order(epoch)[start : min(start + size, last)]
            plain.train_on_batch(x[rows], y[rows])
    assert steps == [1, 2]
    for ours, theirs in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)


def test_where_the_rows_of_now_are_fewer_than_those_done_the_next_epoch_begins(make_strategy, tmp_path):
    stop(make_strategy(1), tmp_path, at=9)
    x, y = jobs.make_rows(BATCH, "float32")
    fewer = {"source": from_arrays(x, y, global_batch=BATCH, seed=5), "resume_with_changes": True}
    _, history = resume(make_strategy(1), tmp_path, **fewer)
    # Of the first and of the third epoch.
    assert len(history["loss"]) == 2
    assert RunDir(tmp_path).checkpoint_steps()[-1] == 10


def test_other_rows_of_the_same_shape_are_refused(make_strategy, stopped, caplog):
    x, y = jobs.make_rows(ROWS, "float32")
    other = from_arrays(x + 1, y, global_batch=BATCH, seed=5)
    with pytest.raises(CheckpointError, match=r"in the values of some rows: 'sha256 .*use resume_with_changes"):
        resume(make_strategy(1), stopped, source=other)
    resume(make_strategy(1), stopped, source=other, resume_with_changes=True)
    assert "the data differ in the values of some rows" in caplog.text


class Halving(keras.callbacks.Callback):
    """Halves the learning rate after each epoch."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.optimizer.learning_rate = float(self.model.optimizer.learning_rate.numpy()) / 2


def test_a_rate_that_callbacks_have_changed_is_no_change_of_the_script(make_strategy, tmp_path):
    whole, history = train(make_strategy(1), callbacks=[Halving()])
    stop(make_strategy(1), tmp_path, at=12, callbacks=[Halving()])
    model, rest = resume(make_strategy(1), tmp_path, callbacks=[Halving()])
    assert_same((model, rest), (whole, history))
    # The same model in the same process, whose rate is the last one.
    train(model, run_dir=tmp_path, epochs=4)


@pytest.mark.parametrize("data", ["filter", "generator"])
def test_data_of_unknown_length_go_on_within_an_epoch_once_the_steps_are_given(make_strategy, tmp_path, data):
    epochs = 3 if data == "filter" else 1

    def source():
        return batches().filter(lambda x, y: True) if data == "filter" else (each for each in batches())

    whole = train(make_strategy(1), source=source(), epochs=epochs)
    stop(make_strategy(1), tmp_path, at=4, source=source(), epochs=epochs)
    with pytest.raises(ValueError, match=r"a run cannot go on in the middle of one. Give steps_per_epoch"):
        resume(make_strategy(1), tmp_path, source=source(), epochs=epochs)
    resumed = resume(make_strategy(1), tmp_path, source=source(), epochs=epochs, steps_per_epoch=PER_EPOCH)
    assert_same(resumed, whole)
    if data == "filter":
        with pytest.raises(CheckpointError, match="differ in steps_per_epoch: 7 in the checkpoint, 6 now"):
            resume(make_strategy(1), tmp_path, source=source(), epochs=4, steps_per_epoch=6)


def test_a_run_that_a_callback_stops_within_an_epoch_goes_on_at_the_next_row(make_strategy, tmp_path):
    class Leave(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 3

    whole = train(make_strategy(1))
    train(make_strategy(1), run_dir=tmp_path, callbacks=[Leave()])
    assert RunDir(tmp_path).checkpoint_steps() == [4]
    model, _ = resume(make_strategy(1), tmp_path)
    np.testing.assert_array_equal(jobs.weights_of(model), jobs.weights_of(whole[0]))


def test_other_threads_and_versions_are_mentioned(make_strategy, stopped, caplog, monkeypatch):
    from tfdist.strategy import hardware

    here = hardware.numerics()
    monkeypatch.setattr(hardware, "numerics", lambda: {**here, "keras": "9.9", "intra_op_threads": 77})
    resume(make_strategy(1), stopped)
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    there = f"keras was {here['keras']} and is now 9.9, intra_op_threads was {here['intra_op_threads']} and is now 77"
    assert told == (
        f"checkpoint {RunDir(stopped).checkpoint(9)}: {there}. The weights may differ from an uninterrupted run's "
        "by rounding."
    )


def test_promise_29_a_torn_checkpoint_is_named_and_the_one_before_taken(make_strategy, stopped, caplog):
    run = RunDir(stopped)
    model, history = train(make_strategy(1))
    whole = state(model), history
    (run.checkpoint(9) / "variables.npz").write_bytes(b"")
    resumed = resume(model, stopped, checkpoint_every_steps=20)
    assert_same(resumed, whole)
    assert caplog.messages[0].startswith(f"checkpoint {run.checkpoint(9)} is damaged: variables.npz has 0 bytes, and ")
    assert caplog.messages[0].endswith(" were written. Going on from step 8 instead.")
    # It does not count among those that are kept.
    assert [problem for _, problem, _ in manifest.inspect(run)] == [None] * 3


def test_promise_29_a_run_without_a_whole_checkpoint_does_not_begin_anew(make_strategy, stopped):
    for step in RunDir(stopped).checkpoint_steps():
        (RunDir(stopped).checkpoint(step) / "state.json").unlink()
    with pytest.raises(CheckpointError) as error:
        train(make_strategy(1), run_dir=stopped)
    assert str(error.value) == (
        f"checkpoints {stopped}/checkpoints: none of 3 is whole (step-00000009: state.json is missing; "
        "step-00000008: state.json is missing; step-00000007: state.json is missing). Restore one from a copy, "
        "or delete the folder to start again."
    )


@pytest.mark.slow
def test_the_best_checkpoint_stays_beside_the_newest(make_strategy, tmp_path):
    losses = iter([3.0, 1.0, float("nan"), 2.0, 5.0])

    class Judge(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_loss"] = next(losses)

    model, _ = train(make_strategy(1), epochs=3, run_dir=tmp_path, keep_checkpoints=1, callbacks=[Judge()])
    resume(model, tmp_path, epochs=5, keep_checkpoints=1, callbacks=[Judge()])
    run = RunDir(tmp_path)
    assert run.checkpoint_steps() == [2 * PER_EPOCH, 5 * PER_EPOCH]
    assert json.loads(run.best.read_text()) == {"step": 2 * PER_EPOCH, "by": "val_loss", "value": 1.0}
    assert manifest.best_step(run) == 2 * PER_EPOCH
    with pytest.raises(ValueError, match=r"keep_checkpoints is 0\. Use a whole number from 1"):
        train(make_strategy(1), run_dir=tmp_path, keep_checkpoints=0)


def test_promise_30_two_workers_go_on_together(two_workers, tmp_path):
    both = two_workers(stop_and_go_on, tmp_path)
    for done, refusal in zip(both, ["FolderNotEmptyError", "CheckpointError"], strict=True):
        assert done.value == (True, True, refusal)
        # A run that resumes within an epoch restores each replica's own metrics, without TensorFlow's warnings.
        assert "eagerly has significant overhead" not in done.said
    assert "step-00000099 is damaged: manifest.json is missing. Going on from step 8 instead." in both[0].said
    # The newest three, the best among them or beside.
    assert len(RunDir(tmp_path).checkpoint_steps()) in (3, 4)
    assert not list(RunDir(tmp_path).checkpoints.glob(".*"))
