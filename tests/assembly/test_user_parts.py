"""A recipe's functions: which rows they see, where they are called, and what a wrong result is told."""

import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdist import data
from tfdist.assembly import assemble, user_parts
from tfdist.assembly.recipe_file import load_recipe
from tfdist.options.run import RunConfig
from tfdist.train import command

A_TRANSFORM = "Return a function (batch, row_seeds) → batch, or a list of such."
RECIPE = """
import keras
import tensorflow as tf

import tfdist


def make_model():
    kernel = keras.initializers.GlorotUniform(seed=3)
    output = keras.layers.Dense(10, "softmax", kernel_initializer=kernel)
    return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), output])


def make_preprocessing():
    def centre(batch, row_seeds):
        images, labels = batch
        return images - 0.5, tf.one_hot(labels, 10)

    return centre


def make_augmentation():
    augment = tfdist.data.augment
    return [augment.on_images(augment.flip()), augment.on_images(augment.pad_crop(1))]


def make_metrics():
    return [keras.metrics.CategoricalAccuracy(name="right"), keras.metrics.AUC(num_thresholds=20, name="auc")]


class Notes(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        logs["noted"] = float(epoch)


def recipe():
    return tfdist.RunConfig(
        name="mine", model=make_model, dataset="digits", optimizer="sgd", learning_rate=0.1, epochs=1, global_batch=64,
        preprocessing=make_preprocessing, augmentation=make_augmentation, callbacks=lambda: [Notes()],
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=0.1), metrics=make_metrics, expected={},
    )
"""


def test_a_recipe_of_functions_trains_on_two_replicas_as_plain_keras_does(tmp_path, cpus):
    path, run = tmp_path / "mine.py", tmp_path / "run"
    path.write_text(RECIPE)
    flags = [f"--recipe={path}", "--strategy=mirrored", "--replicas=2", f"--run_dir={run}"]
    assert command.main(flags) == 0
    config = load_recipe(path)
    source = data.digits("train", global_batch=64).map(config.preprocessing())
    source = functools.reduce(data.Source.map, config.augmentation(), source)
    test = data.digits("test", global_batch=64).map(config.preprocessing())
    plain = config.model()
    plain.compile(keras.optimizers.SGD(0.1), config.loss, metrics=config.metrics())
    plain.fit(source.dataset(), verbose=0, shuffle=False)
    trained = keras.saving.load_model(run / "model.keras")
    for ours, keras_own in zip(trained.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(ours, keras_own, atol=2e-6)
    summary = json.loads((run / "summary.json").read_text())
    expected = plain.evaluate(test.dataset(), verbose=0, return_dict=True)
    assert summary["metrics"].keys() == {"loss", "right", "auc"} == expected.keys()
    assert summary["metrics"] == pytest.approx(expected, abs=1e-5)
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    assert next(line for line in lines if "epoch" in line)["noted"] == 0
    recorded = json.loads((run / "config.json").read_text())
    assert recorded["augmentation"] == "tfdist_file_mine:make_augmentation"
    assert recorded["loss"]["label_smoothing"] == 0.1


def test_another_augmentation_and_another_setting_of_the_loss_are_another_run(tmp_path, cpus, capsys):
    path = tmp_path / "mine.py"
    path.write_text(RECIPE)
    flags = [f"--recipe={path}", "--strategy=one_device", "--steps=1", f"--run_dir={tmp_path / 'run'}"]
    assert command.main(flags) == 0
    changed = RECIPE.replace("make_augmentation", "make_nothing").replace("label_smoothing=0.1", "label_smoothing=0.2")
    path.write_text(changed)
    assert command.main(flags) == 2
    err = capsys.readouterr().err
    there, here = "tfdist_file_mine:make_augmentation", "tfdist_file_mine:make_nothing"
    assert f"augmentation is {there!r} there, and {here!r} here" in err
    assert "'label_smoothing': 0.1" in err


def test_the_parts_of_the_model_are_made_in_the_scope(make_strategy):
    config = RunConfig(
        model="mlp",
        loss=lambda: keras.losses.SparseCategoricalCrossentropy(ignore_class=3),
        metrics=lambda: [keras.metrics.SparseCategoricalAccuracy(), "mse"],
        callbacks=lambda: [NotesWhere()],
    )
    strategy = make_strategy(2)
    source, _ = assemble.make_sources(config)
    with strategy.scope():
        model = assemble.make_model(config, source)
    assert model.loss.ignore_class == 3
    made = model._compile_metrics._user_metrics
    assert isinstance(made[0].total.value, tf.distribute.DistributedValues)
    assert made[1] == "mse"
    with strategy.scope():
        (callback,) = user_parts.make_own_callbacks(config)
    assert callback.strategy is strategy


class NotesWhere(keras.callbacks.Callback):
    """Keeps the strategy in whose scope it was made."""

    def __init__(self):
        super().__init__()
        self.strategy = tf.distribute.get_strategy()


@pytest.mark.parametrize("loss", ["mse", keras.losses.mean_squared_error, keras.losses.MeanSquaredError(name="a")])
def test_a_loss_as_keras_takes_it_is_left_as_it_is(loss):
    assert user_parts.make_loss(RunConfig(loss=loss)) is loss


def test_the_training_split_and_the_others_have_transforms_of_their_own_after_those_of_both():
    halve, negate, add = (lambda x: x / 2), (lambda x: -x), (lambda x: x + 100)

    def on_images(change):
        return lambda: lambda batch, row_seeds: (change(batch[0]), *batch[1:])

    parts = {"preprocessing": halve, "augmentation": negate, "test_preprocessing": add}
    config = RunConfig(global_batch=64, **{name: on_images(change) for name, change in parts.items()})
    train, test = assemble.make_sources(config)
    changed, plain = (
        [next(iter(source.dataset()))[0].numpy() for source in sources]
        for sources in ((train, test), [data.digits(split, global_batch=64) for split in ("train", "test")])
    )
    np.testing.assert_array_equal(changed[0], -plain[0] / 2)
    np.testing.assert_array_equal(changed[1], plain[1] / 2 + 100)


def test_a_class_of_losses_is_made_with_its_defaults():
    assert isinstance(user_parts.make_loss(RunConfig(loss=keras.losses.Huber)), keras.losses.Huber)


@pytest.mark.parametrize(
    ("field", "returned", "message"),
    [
        ("preprocessing", None, f"preprocessing returned None. {A_TRANSFORM}"),
        ("augmentation", [3], f"augmentation returned [3]. {A_TRANSFORM}"),
        ("test_preprocessing", 7, f"test_preprocessing returned 7. {A_TRANSFORM}"),
        ("callbacks", None, "callbacks returned None. Return a list of Keras callbacks."),
        ("callbacks", [3], "callbacks returned [3]. Return a list of Keras callbacks."),
        ("loss", None, "loss returned None. Return a name, a function (y_true, y_pred) or a keras.losses.Loss."),
        ("metrics", "mse", "metrics returned 'mse'. Return a list of metrics."),
    ],
)
def test_what_a_function_returned_is_refused_by_field_and_value(field, returned, message):
    config = RunConfig(**{field: lambda: returned})
    makers = {"loss": user_parts.make_loss, "metrics": user_parts.make_metrics}
    make = makers.get(field, user_parts.make_own_callbacks if field == "callbacks" else user_parts.make_transforms)
    with pytest.raises(ValueError) as error:
        make(config)
    assert str(error.value) == message


def test_a_data_set_that_is_no_source_is_refused():
    with pytest.raises(ValueError, match=r"dataset returned 3 for 'train'\. Return a tfdist\.data\.Source\."):
        assemble.make_sources(RunConfig(dataset=lambda split, global_batch, seed: 3))
