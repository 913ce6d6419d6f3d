"""Checks `fit`, `evaluate` and `predict` against plain Keras on one device."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import jobs
from support.turns import in_turns

import tfdist
from tfdist.data.delivery.delivery import elements
from tfdist.data.source import Source
from tfdist.data.sources.arrays import from_arrays
from tfdist.data.sources.batches import Batches
from tfdist.internals.access import runtime
from tfdist.options.checkpoints import CheckpointOptions
from tfdist.options.fields import flatten
from tfdist.options.step import StepOptions

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("float64"), pytest.mark.slow, pytest.mark.oldest]


@pytest.mark.parametrize(("global_batch", "replicas"), in_turns([3, 20, 51, 103], [4, 3, 2, 1]))
def test_replicas_end_with_the_weights_of_one_device(make_strategy, replicas, global_batch):
    source = jobs.small_source(global_batch)
    plain, plain_history = jobs.train_plainly(source)
    model, history = jobs.train(make_strategy(replicas), source)
    before = jobs.weights_of(jobs.make_mlp())
    assert np.abs(jobs.weights_of(plain) - before).max() > 1e-2
    np.testing.assert_allclose(jobs.weights_of(model), jobs.weights_of(plain), rtol=0, atol=1e-9)
    assert history.keys() == plain_history.keys()
    for name, values in history.items():
        np.testing.assert_allclose(values, plain_history[name], atol=1e-6, err_msg=name)


@pytest.mark.parametrize("replicas", [2, 3, 4])
def test_batchnorm_takes_the_statistics_of_all_replicas(make_strategy, replicas):
    def make_model():
        return jobs.make_mlp(batch_norm=True)

    # 103 rows in batches of 34: the last batch has one row, and leaves replicas empty.
    source = jobs.small_source(34)
    plain, _ = jobs.train_plainly(source, make_model=make_model)
    model, _ = jobs.train(make_strategy(replicas), source, make_model=make_model)
    np.testing.assert_allclose(jobs.weights_of(model), jobs.weights_of(plain), rtol=0, atol=1e-9)


def test_convolutions_survive_a_replica_without_rows(make_strategy):
    def make_model():
        keras.utils.set_random_seed(7)
        model = tfdist.models.build("cnn", classes=3, input_shape=(6, 6, 1), filters=(4,), dense=8)
        model.compile(keras.optimizers.SGD(0.5), loss="sparse_categorical_crossentropy")
        return model

    x = np.random.RandomState(1).randn(9, 6, 6, 1)
    source = from_arrays(x, np.arange(9) % 3, global_batch=4)
    plain, _ = jobs.train_plainly(source, make_model=make_model)
    model, _ = jobs.train(make_strategy(4), source, make_model=make_model)
    np.testing.assert_allclose(jobs.weights_of(model), jobs.weights_of(plain), rtol=0, atol=1e-9)


def test_a_mean_over_each_replica_would_be_found(make_strategy, monkeypatch):
    from tfdist.internals.access.replica import Rows

    monkeypatch.setattr(Rows, "share", lambda self, dtype: tf.constant(1 / 3, dtype))
    source = jobs.small_source(20)
    plain, _ = jobs.train_plainly(source)
    model, _ = jobs.train(make_strategy(3), source)
    assert np.abs(jobs.weights_of(model) - jobs.weights_of(plain)).max() > 1e-3


@pytest.mark.parametrize("replicas", [1, 3])
def test_evaluate_and_predict_are_exact_over_any_number_of_rows(make_strategy, replicas):
    x, y = jobs.make_rows()
    with make_strategy(replicas).scope():
        model = jobs.make_mlp()
    plain = jobs.make_mlp()
    for rows in (1, 2, 31, 103):
        mine = tfdist.evaluate(model, x[:rows], y[:rows], batch_size=10, verbose=0)
        theirs = plain.evaluate(x[:rows], y[:rows], batch_size=10, verbose=0)
        np.testing.assert_allclose(mine, theirs, atol=1e-6)
        outputs = tfdist.predict(model, x[:rows], batch_size=10, verbose=0)
        np.testing.assert_allclose(outputs, plain.predict(x[:rows], verbose=0), atol=1e-12)


def test_validation_goes_into_the_history(make_strategy):
    x, y = jobs.make_rows()
    model, history = jobs.train(
        make_strategy(2), jobs.small_source(), epochs=2, validation_data=(x, y), validation_freq=2
    )
    assert len(history["loss"]) == 2
    loss, accuracy = tfdist.evaluate(model, x, y, verbose=0)
    assert history["val_loss"] == [pytest.approx(loss)]
    assert history["val_accuracy"] == [pytest.approx(accuracy)]


@pytest.mark.parametrize("replicas", [1, 2])
def test_many_steps_in_one_call_change_nothing(make_strategy, replicas):
    def make_model():
        model = jobs.make_mlp()
        model.steps_per_execution = 4
        return model

    batches = []
    callback = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: batches.append(batch))
    source = jobs.small_source(20)
    plain, _ = jobs.train_plainly(source)
    model, _ = jobs.train(make_strategy(replicas), source, make_model=make_model, callbacks=[callback])
    np.testing.assert_allclose(jobs.weights_of(model), jobs.weights_of(plain), rtol=0, atol=1e-9)
    # Six steps an epoch: a call of four and one of two.
    assert batches == [3, 5, 3, 5]


def test_a_second_fit_does_not_trace_again(make_strategy):
    class Counting(keras.layers.Layer):
        traces = 0

        def call(self, x):
            type(self).traces += 1
            return x

    keras.utils.set_random_seed(7)
    with make_strategy(2).scope():
        model = keras.Sequential([keras.Input((jobs.WIDTH,)), Counting(), keras.layers.Dense(3, activation="softmax")])
        model.compile("sgd", loss="sparse_categorical_crossentropy")
    source = jobs.small_source(20)
    tfdist.fit(model, source, verbose=0)
    first = Counting.traces
    tfdist.fit(model, source, verbose=0)
    tfdist.fit(model, *jobs.make_rows(), verbose=0)
    assert Counting.traces == first
    with model.distribute_strategy.scope():
        model.compile("sgd", loss="sparse_categorical_crossentropy")
    tfdist.fit(model, source, verbose=0)
    assert Counting.traces > first


@pytest.fixture
def made(monkeypatch):
    """Returns a list of (kind of data, place) to which each pipeline is added that is made."""
    found = []

    def listen(kind, method):
        make = getattr(kind, method)

        def noted(self, *rest, **more):
            found.append((kind, *rest[-2:]))
            return make(self, *rest, **more)

        monkeypatch.setattr(kind, method, noted)

    listen(Source, "deliver")
    listen(Batches, "shares")
    return found


def test_all_epochs_share_one_pipeline(make_strategy, made):
    jobs.train(make_strategy(1), jobs.small_source(20), epochs=3)
    assert len(made) == 1


@pytest.mark.parametrize("replicas", [1, 2])
def test_data_that_begin_anew_do_so_in_one_pipeline(make_strategy, made, replicas, monkeypatch):
    rows = jobs.small_source(20)
    jobs.train(make_strategy(replicas), rows, epochs=3, validation_data=jobs.small_source(20))
    assert made == [(Source, 0, 0)] * 2
    made.clear()
    # On CPUs the step reads the user's own pipeline.
    jobs.train(make_strategy(replicas), rows.dataset(), epochs=3, validation_data=rows.dataset())
    assert made == []
    monkeypatch.setattr(runtime, "is_on_cpus", lambda strategy: False)
    jobs.train(make_strategy(replicas), rows.dataset(), epochs=3, validation_data=rows.dataset())
    assert [kind for kind, *_ in made] == [Batches] * 2


def test_a_pipeline_that_begins_anew_shuffles_anew(make_strategy):
    strategy = make_strategy(1)
    numbers = tf.data.Dataset.range(100).shuffle(100, seed=3).batch(100)
    begin = Batches("numbers", numbers).deliver(strategy)
    one, other = (next(elements(strategy, begin(), 1)).numpy() for _ in range(2))
    assert sorted(one) == sorted(other) == list(range(100))
    assert list(one) != list(other)


@pytest.mark.parametrize("stopped_at", [4, 6, 9])
def test_a_run_that_was_stopped_goes_on_at_the_same_row(make_strategy, tmp_path, stopped_at):
    source = jobs.small_source(20)
    whole, _ = jobs.train(make_strategy(2), source, epochs=3)
    jobs.train(make_strategy(2), source, steps=stopped_at, run_dir=tmp_path)
    model, _ = jobs.train(make_strategy(3), source, epochs=3, run_dir=tmp_path, resume="must")
    np.testing.assert_allclose(jobs.weights_of(model), jobs.weights_of(whole), rtol=0, atol=1e-9)


def test_checkpoints_come_when_asked_even_within_a_call(make_strategy, tmp_path):
    def make_model():
        model = jobs.make_mlp()
        model.steps_per_execution = 100
        return model

    jobs.train(
        make_strategy(1),
        jobs.small_source(20),
        make_model=make_model,
        steps=9,
        run_dir=tmp_path,
        checkpoint_every_steps=4,
    )
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000006", "step-00000008", "step-00000009"]


def test_mistakes_are_told():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match=r"tfdist.fit: the model is not compiled. Call model"):
        tfdist.fit(model, np.zeros((4, 2)), np.zeros(4))
    model.compile("sgd", loss="mse")
    source = from_arrays(np.zeros((4, 2)), np.zeros(4))
    with pytest.raises(ValueError, match="x is a tfdist Source, which already has its batch_size"):
        tfdist.fit(model, source, batch_size=2)
    with pytest.raises(ValueError, match="checkpoint_every_steps is 5, but there is no run_dir"):
        tfdist.fit(model, source, checkpoint_every_steps=5)


@pytest.mark.parametrize("replicas", [1, 3])
def test_predictions_can_be_had_step_by_step_with_their_places(make_strategy, replicas):
    x, _ = jobs.make_rows()
    model, _ = jobs.train(make_strategy(replicas), jobs.small_source(20))
    steps = list(tfdist.predict(model, x, batch_size=20, verbose=0, own_rows=True))
    places, outputs = zip(*steps, strict=True)
    np.testing.assert_array_equal(np.concatenate(places), np.arange(len(x)))
    assert [len(part) for part in outputs] == [20, 20, 20, 20, 20, 3]
    np.testing.assert_array_equal(np.concatenate(outputs), tfdist.predict(model, x, batch_size=20, verbose=0))


def settings_of(model):
    """Returns what options of `fit` could leave on a model."""
    norms = [layer.synchronized for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    kept = {name for name in vars(model) if name.startswith("_tfdist")} - {"_tfdist_kept"}
    return model.jit_compile, model.steps_per_execution, model.run_eagerly, norms, kept


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "bfloat16"},
        {"exchange": "factors"},
        {"jit_compile": True, "sync_batchnorm": False},
        {"steps_per_execution": 3},
        {"sync_batchnorm": False},
    ],
    ids="+".join,
)
def test_nothing_that_a_call_of_fit_was_told_stays_for_the_next(make_strategy, options):
    def train(first):
        keras.utils.set_random_seed(3)
        with make_strategy(2).scope():
            model = jobs.make_batchnorm_mlp()
            model.optimizer.build(model.trainable_variables)
        start = [np.copy(np.asarray(variable)) for variable in (*model.variables, *model.optimizer.variables)]
        before = settings_of(model)
        tfdist.fit(model, *jobs.make_rows(12, "float32"), batch_size=4, verbose=0, **first)
        assert settings_of(model) == before
        for variable, value in zip((*model.variables, *model.optimizer.variables), start, strict=True):
            variable.assign(value)
        tfdist.fit(model, *jobs.make_rows(12, "float32"), batch_size=4, shuffle=False, verbose=0)
        return jobs.weights_of(model)

    np.testing.assert_array_equal(train(options), train({}))


@pytest.mark.parametrize("kind", [StepOptions, CheckpointOptions])
def test_each_option_of_fit_reaches_its_dataclass(monkeypatch, kind):
    class ReachedError(Exception):
        pass

    def keep(**given):
        raise ReachedError(given)

    monkeypatch.setattr(f"tfdist.training.loop.{kind.__name__}", keep)
    names = dict(zip([field.name for field in dataclasses.fields(kind)], flatten(kind()), strict=True))
    values = {
        "folder": "a",
        "exchange": "factors",
        "compression": "float16",
        "resume": "never",
        "sync_batchnorm": False,
    }
    values = {field: values.get(field, 7) for field in names}
    with pytest.raises(ReachedError) as reached:
        tfdist.fit(None, **{names[field]: value for field, value in values.items()})
    assert reached.value.args[0] == values
