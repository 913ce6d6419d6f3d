"""Frozen layers, their thawing and LoRA: the weights are those of plain Keras on one device, also after a resume."""

import pathlib

import keras
import numpy as np
import pytest
from support import jobs
from support.worker_jobs.starting import SPEC, X, Y, make_model, thaw_and_draw, train

import tfdist
from tfdist.assembly import start
from tfdist.options.start import StartOptions

pytestmark = [pytest.mark.usefixtures("float64"), pytest.mark.slow]

THAWED = StartOptions(freeze=("^backbone",), thaw_epoch=1)


def backbone_of(model):
    return model.get_layer("backbone").get_weights()


def assert_same(ours, theirs, **tolerance):
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, **tolerance)


@pytest.fixture(scope="module")
def plain():
    """Returns the weights of plain Keras on one device: frozen for one epoch, thawed for two, and what was frozen."""
    with jobs.double_precision():
        model = make_model()
        model.optimizer.build(model.trainable_variables)
        model.get_layer("backbone").trainable = False
        frozen = backbone_of(model)
        model.fit(X, Y, batch_size=10, verbose=0, shuffle=False)
        assert_same(backbone_of(model), frozen, atol=0)
        model.get_layer("backbone").trainable = True
        model.make_train_function(force=True)
        model.fit(X, Y, batch_size=10, verbose=0, shuffle=False, epochs=3, initial_epoch=1)
        return model.get_weights(), frozen


@pytest.mark.parametrize("replicas", [1, 2])
def test_layers_that_thaw_are_trained_as_plain_keras_trains_them(replicas, plain, make_strategy):
    model = train(make_strategy(replicas), THAWED, epochs=3)
    expected, frozen = plain
    assert_same(model.get_weights(), expected, atol=1e-9)
    assert np.abs(backbone_of(model)[0] - frozen[0]).max() > 1e-3


def test_two_workers_thaw_alike_and_the_chief_alone_draws(plain, two_workers, tmp_path):
    for done in two_workers(thaw_and_draw, THAWED, tmp_path):
        assert_same(done.value, plain[0], atol=1e-9)
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*.png")] == [pathlib.Path("0/epoch-0001.png")]


def test_a_run_that_resumes_before_at_and_after_the_thawing_ends_with_the_very_weights(make_strategy, tmp_path):
    """5 steps an epoch: it stops within the frozen epoch, at its end, and within the next one."""
    frozen = backbone_of(make_model())
    one_by_one = {"steps_per_execution": 1}
    whole = train(make_strategy(2), THAWED, steps=10, **one_by_one)
    saving = {"run_dir": tmp_path, "checkpoint_every_steps": 1, **one_by_one}
    for stop in (3, 5, 7, 10):
        resumed = train(make_strategy(2), THAWED, steps=stop, **saving)
        same = all(map(np.array_equal, backbone_of(resumed), frozen))
        assert same == (stop <= 5), "frozen weights and moving statistics are bit-identical before they thaw"
    assert_same(resumed.get_weights(), whole.get_weights(), atol=0)
    assert_same(resumed.optimizer.variables, whole.optimizer.variables, atol=0)


def test_a_model_that_the_user_froze_and_compiles_again_is_trained_as_keras_does(make_strategy):
    def run(model, fit):
        model.get_layer("backbone").trainable = False
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
        fit(model, X, Y, batch_size=10, verbose=0, shuffle=False)
        model.get_layer("backbone").trainable = True
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
        fit(model, X, Y, batch_size=10, verbose=0, shuffle=False)
        return model.get_weights()

    with make_strategy(2).scope():
        model = make_model()
        ours = run(model, tfdist.fit)
    assert_same(ours, run(make_model(), keras.Model.fit), atol=1e-9)


def test_lora_is_trained_as_plain_keras_trains_it_and_is_saved_with_the_model(make_strategy, tmp_path):
    plain = make_model()
    plain.get_layer("head").enable_lora(2)
    plain.fit(X, Y, batch_size=10, verbose=0, shuffle=False, epochs=2)
    strategy = make_strategy(2)
    with strategy.scope():
        model = make_model()
    base = np.asarray(model.get_layer("head")._kernel)
    options = StartOptions(lora_rank=2, lora_layers=("head",))
    assert start.prepare(model, options, SPEC, is_fresh=True) == []
    saving = {"run_dir": tmp_path / "run", "checkpoint_every_steps": 1}
    for steps in (3, 10):
        tfdist.fit(model, X, Y, batch_size=10, verbose=0, shuffle=False, steps=steps, **saving)
    # Keras keeps the weights of LoRA in float32, whatever the type of the layer is.
    assert_same(model.get_weights(), plain.get_weights(), atol=2e-6)
    np.testing.assert_array_equal(np.asarray(model.get_layer("head")._kernel), base)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(X, verbose=0), plain.predict(X, verbose=0), atol=2e-6)


def test_what_froze_and_what_was_read_is_logged(make_strategy, tmp_path, caplog):
    trained = make_model()
    trained.save(tmp_path / "trained.keras")
    with make_strategy(2).scope():
        model = make_model()
    options = StartOptions(init_from=tmp_path / "trained.keras", freeze=("first", "norm"))
    with caplog.at_level("INFO", "tfdist"):
        assert start.prepare(model, options, SPEC, is_fresh=True) == []
    assert f"init_from {tmp_path / 'trained.keras'}: 8 of 8 weights match (100.0% of the numbers)." in caplog.text
    assert "freeze: 2 layers; 2 of 8 weights are trained." in caplog.text
    with make_strategy(2).scope():
        model = make_model()
    with caplog.at_level("INFO", "tfdist"):
        start.prepare(model, StartOptions(lora_rank=2, lora_layers=("head",)), SPEC, is_fresh=True)
    assert f"lora_rank 2: 1 layers; 7 of {len(model.weights)} weights are trained." in caplog.text


def test_a_run_that_resumes_does_not_read_what_it_started_from(tmp_path):
    assert start.prepare(make_model(), StartOptions(init_from=tmp_path / "gone.keras"), SPEC, is_fresh=False) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze": ("backbon/first",)}, "freeze: 'backbon/first' is in the path of no layer. Did you mean 'backbone/"),
        ({"freeze": ("xyz",)}, "freeze: 'xyz' is in the path of no layer. There are: input_layer"),
        (
            {"lora_rank": 2, "lora_layers": ("norm",)},
            "lora_layers: 'norm' is in the path of no layer that can have LoRA. ",
        ),
        ({"freeze": (".",)}, "freeze is ('.',), which leaves no weight to train. Use patterns that leave out some"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused_with_the_nearest_names(options, message):
    with pytest.raises(ValueError) as error:
        start.prepare(make_model(), StartOptions(**options), SPEC, is_fresh=True)
    assert str(error.value).startswith(message)


def test_lora_that_no_layer_can_have_is_refused():
    model = keras.Sequential([keras.Input((6,)), keras.layers.BatchNormalization()])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"lora_rank is 2, but the model has no Dense, EinsumDense or Embedding layer"):
        start.prepare(model, StartOptions(lora_rank=2), SPEC, is_fresh=True)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2, kernel_constraint="non_neg", name="held")])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"lora_rank: layer 'held' cannot have LoRA: Lora is incompatible with kernel"):
        start.prepare(model, StartOptions(lora_rank=2), SPEC, is_fresh=True)


def test_averages_of_weights_and_thawing_are_refused_together():
    model = make_model()
    model.compile(keras.optimizers.SGD(0.1, use_ema=True), "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="thaw_epoch and an optimizer with use_ema"):
        start.prepare(model, THAWED, SPEC, is_fresh=True)
