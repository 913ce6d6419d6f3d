"""Weights are copied by the paths and shapes of layers, from every kind of file; what is not copied is named."""

import keras
import numpy as np
import pytest
from support import jobs

import tfdist
from tfdist.checkpoints.warm_start import best_match

pytestmark = [pytest.mark.usefixtures("cpus")]


def make_backbone(name="backbone"):
    image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, name="conv")(image)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Conv2D(4, 3)(x)
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(x), name=name)


def make_classifier(classes, head="head"):
    image = keras.Input((8, 8, 1))
    x = keras.layers.Dropout(0.1, seed=1)(make_backbone()(image))
    return keras.Model(image, keras.layers.Dense(classes, name=head)(x))


class Blocks(keras.Model):
    """A subclass whose layers are in a list, within layers of the user's own, and behind attributes."""

    def __init__(self):
        super().__init__()
        self.blocks = [keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(4)]) for _ in range(2)]
        self.cell = keras.layers.Bidirectional(keras.layers.LSTM(3))
        self.attend = keras.layers.MultiHeadAttention(2, 3)

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return self.cell(self.attend(x, x))


def write_checkpoint(model, folder):
    """Trains one step with a run's folder, and takes model.keras out of it, as if the run had not come to its end."""
    model.compile("adam", "sparse_categorical_crossentropy")
    tfdist.fit(model, np.ones((4, 8, 8, 1)), np.zeros(4), verbose=0, run_dir=folder)
    (folder / "model.keras").unlink()
    return folder


def write_model(model, folder):
    folder.mkdir()
    model.save(folder / "model.keras")
    return folder


def save(model, path):
    model.save(path) if path.suffix == ".keras" else model.save_weights(path)
    return path


WRITERS = {
    "a .keras file": lambda model, folder: save(model, folder / "a.keras"),
    "a .weights.h5 file": lambda model, folder: save(model, folder / "a.weights.h5"),
    "a run's model": lambda model, folder: write_model(model, folder / "run"),
    "a run's checkpoint": lambda model, folder: write_checkpoint(model, folder / "run"),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_new_head_stays_and_all_else_is_the_files(kind, tmp_path, make_strategy):
    trained = make_classifier(10)
    path = WRITERS[kind](trained, tmp_path)
    with make_strategy(2).scope():
        model = make_classifier(3)
    head = model.layers[-1].get_weights()
    found = tfdist.load_matching_weights(model, path)
    # Two kernels and biases, and four of BatchNormalization.
    assert len(found.matched) == 8
    kernel, bias = ("head/kernel", "head/bias")
    assert found.other_shape == {kernel: ((4, 10), (4, 3)), bias: ((10,), (3,))}
    assert not found.not_in_file
    assert not found.not_in_model
    for ours, theirs in zip(model.get_weights()[:8], trained.get_weights()[:8], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, before in zip(model.layers[-1].get_weights(), head, strict=True):
        np.testing.assert_array_equal(ours, before)


def test_the_table_has_both_sides_with_the_reason(tmp_path):
    path = save(make_classifier(10, head="old_head"), tmp_path / "a.weights.h5")
    model = make_classifier(3, head="new_head")
    lines = str(tfdist.load_matching_weights(model, path)).splitlines()
    assert lines[0] == f"{path}: 8 of 10 weights match ({204 / (204 + 15):.1%} of the numbers)."
    assert lines[1:] == [
        "  new_head/kernel (4, 3): not in the file",
        "  new_head/bias (3,): not in the file",
        "  old_head/0 (4, 10): in the file, not here",
        "  old_head/1 (10,): in the file, not here",
    ]


def test_a_long_list_ends_with_how_many_more_there_are(tmp_path):
    deep = keras.Sequential([keras.Input((2,)), *(keras.layers.Dense(2, name=f"layer_{place}") for place in range(9))])
    path = save(deep, tmp_path / "a.weights.h5")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="layer_0")])
    assert str(tfdist.load_matching_weights(model, path)).splitlines()[-1] == "  and 4 more"


@pytest.mark.parametrize("kind", ["a .weights.h5 file", "a run's checkpoint"])
def test_layers_with_names_of_keras_are_told_apart_by_their_order(kind, tmp_path):
    def make_model(classes):
        layers = [keras.layers.Dense(6) for _ in range(12)]
        return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), *layers, keras.layers.Dense(classes)])

    trained = make_model(10)
    path = WRITERS[kind](trained, tmp_path)
    make_model(1)
    model = make_model(2)
    assert len(tfdist.load_matching_weights(model, path).matched) == 24
    for ours, theirs in zip(model.get_weights()[:24], trained.get_weights()[:24], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_backbone_alone_fills_the_one_within_a_model_and_the_other_way_round(tmp_path):
    backbone, model = make_backbone(), make_classifier(3)
    found = tfdist.load_matching_weights(model, save(backbone, tmp_path / "backbone.keras"))
    assert list(found.not_in_file) == ["head/kernel", "head/bias"]
    np.testing.assert_array_equal(model.get_weights()[0], backbone.get_weights()[0])
    again = make_backbone("other")
    found = tfdist.load_matching_weights(again, save(model, tmp_path / "whole.keras"))
    assert not found.not_in_file
    for ours, theirs in zip(again.get_weights(), backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_every_weight_of_a_subclass_is_found(tmp_path):
    trained, model = Blocks(), Blocks()
    for each in (trained, model):
        each(np.ones((1, 3, 4)))
    found = tfdist.load_matching_weights(model, save(trained, tmp_path / "a.weights.h5"))
    assert len(found.matched) == len(model.weights) == 8 + 6 + 8
    for ours, theirs in zip(model.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_weights_of_another_type_are_converted(tmp_path):
    trained = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, dtype="bfloat16")])
    path = save(trained, tmp_path / "a.weights.h5")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, dtype="float32")])
    tfdist.load_matching_weights(model, path)
    np.testing.assert_array_equal(model.get_weights()[0], trained.get_weights()[0].astype("float32"))


def test_the_state_of_the_optimizer_and_of_random_layers_is_not_copied(tmp_path):
    path = write_checkpoint(make_classifier(10), tmp_path / "run")
    found = tfdist.load_matching_weights(make_backbone(), path)
    assert found.not_in_model == {"head/kernel": (4, 10), "head/bias": (10,)}


def test_a_file_of_which_nothing_matches_is_refused_with_both_sides(tmp_path):
    path = save(make_backbone(), tmp_path / "a.weights.h5")
    model = jobs.make_mlp()
    with pytest.raises(ValueError) as error:
        tfdist.load_matching_weights(model, path)
    path_in_model = model.weights[0].path.partition("/")[2]
    message = str(error.value)
    assert message.startswith(f"{path}: none of its 8 weights is one of the model: the file has ")
    assert "norm/0 (4,)" in message
    assert f"and the model {path_in_model} (4, 8), " in message


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.keras", None, "there is no such file. Give a .keras file, a .weights.h5 file, or the folder of a run."),
        ("a.keras", b"no", "this is no file of weights of Keras 3 (File is not a zip file). Give a .keras file"),
        ("a.h5", b"no", "this is no file of weights of Keras 3 ("),
        ("empty", "folder", "the folder has neither a model.keras nor a checkpoint. Give a .keras file"),
    ],
)
def test_a_path_without_weights_is_refused(name, content, message, tmp_path):
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content:
        path.write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        tfdist.load_matching_weights(make_backbone(), path)
    assert str(error.value).startswith(f"{path}: {message}")


def test_the_names_that_match_more_weights_win():
    there = {"dense/0": (2, 2), "dense_1/0": (2, 3), "dense_2/0": (3, 1)}
    here = {"dense_1/0": (2, 2), "dense_2/0": (2, 3), "dense_3/0": (3, 1)}
    found = best_match(there, here)
    assert found == {"dense_1/0": "dense/0", "dense_2/0": "dense_1/0", "dense_3/0": "dense_2/0"}
    # Given names that agree are not counted anew.
    assert best_match({"block_2/0": (2,)}, {"block_1/0": (2,), "block_2/0": (2,)}) == {"block_2/0": "block_2/0"}
