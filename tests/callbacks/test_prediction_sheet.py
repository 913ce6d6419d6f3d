"""A sheet of predictions shows what plain Keras predicts, the row with the highest loss first."""

import keras
import numpy as np
import pytest
from matplotlib import image
from support import jobs

import tfdist
from tfdist.callbacks import sheet
from tfdist.callbacks.prediction_sheet import PredictionSheet, _probabilities_of

pytestmark = [pytest.mark.usefixtures("cpus")]


def make_model(activation="softmax", classes=10):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(classes, activation)])
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    return model


def centred(batch, row_seeds):
    images, labels = batch
    return images - 0.5, labels


@pytest.fixture
def drawn(monkeypatch):
    """Returns a list of what `write_sheet` is called with; the files are written all the same."""
    calls, write = [], sheet.write_sheet
    monkeypatch.setattr(
        sheet, "write_sheet", lambda path, *given, **more: (calls.append((*given, more)), write(path, *given, **more))
    )
    return calls


def test_each_epoch_has_a_sheet_of_what_keras_predicts(make_strategy, tmp_path, drawn):
    train, test = tfdist.data.digits("train").map(centred), tfdist.data.digits("test").map(centred)
    with make_strategy(2).scope():
        model = make_model()
    tfdist.fit(model, train, epochs=2, verbose=0, callbacks=[PredictionSheet(tmp_path, test, rows=40)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-0001.png", "epoch-0002.png"]
    images, probabilities, truth, more = drawn[-1]
    inputs, labels = next(iter(test.dataset().unbatch().batch(40)))
    plain = make_model()
    plain.set_weights(model.get_weights())
    np.testing.assert_allclose(probabilities, plain.predict(inputs, verbose=0), atol=1e-6)
    np.testing.assert_array_equal(truth, labels)
    np.testing.assert_allclose(images, inputs + 0.5, atol=1e-6)
    expected = keras.losses.sparse_categorical_crossentropy(labels, probabilities)
    np.testing.assert_allclose(sheet.losses(probabilities, truth), expected, rtol=1e-5)
    right = (plain.predict(inputs, verbose=0).argmax(1) == truth).sum()
    assert more["title"].startswith(f"digits/test, epoch 2: {right} of 40 right. ")
    assert image.imread(tmp_path / "epoch-0002.png").shape[1] > 1000


def test_a_training_with_sheets_ends_with_the_very_weights_of_one_without(make_strategy, tmp_path):
    def train(*callbacks):
        with make_strategy(2).scope():
            model = make_model()
        tfdist.fit(model, tfdist.data.digits("train"), steps=6, verbose=0, callbacks=callbacks)
        return jobs.weights_of(model)

    with_sheets = train(PredictionSheet(tmp_path, tfdist.data.digits("test"), rows=3))
    np.testing.assert_array_equal(with_sheets, train())


def test_a_sheet_shows_what_the_averaged_weights_predict_that_are_validated(tmp_path, drawn):
    test = tfdist.data.digits("test")
    model = make_model()
    model.compile(keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.9), "sparse_categorical_crossentropy")
    callbacks = [PredictionSheet(tmp_path, test, rows=8), keras.callbacks.SwapEMAWeights()]
    tfdist.fit(model, tfdist.data.digits("train"), epochs=2, verbose=0, validation_data=test, callbacks=callbacks)
    assert len(drawn) == 2
    # At the end of training, Keras writes the averages over the weights.
    np.testing.assert_allclose(drawn[-1][1], model.predict(test.first_rows(8)[0], verbose=0), atol=1e-5)


def test_the_row_with_the_highest_loss_is_drawn_first(tmp_path):
    images = np.stack([np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8), np.zeros((4, 4), np.uint8)])
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8]])
    names = ["a class with a long name indeed", "b"]
    sheet.write_sheet(tmp_path / "a.png", images, probabilities, np.array([0, 1, 1]), names=names, title="t")
    pixels = image.imread(tmp_path / "a.png")[..., :3].mean(2)
    # Three images beside each other, of which the first alone is white: 60 % down, in the middle of each third.
    line = pixels[int(0.6 * len(pixels))]
    middles = [line[int((place + 0.5) / 3 * len(line))] for place in range(3)]
    assert middles == [1, 0, 0]


@pytest.mark.parametrize("values", [np.array([[2.0, -1.0, 0.5]]), np.array([[30.0, 1.0, 2.0]])])
def test_logits_become_probabilities(values):
    expected = keras.ops.softmax(values)
    np.testing.assert_allclose(_probabilities_of(keras.ops.convert_to_tensor(values), np.array([0])), expected)


def test_one_output_is_the_second_of_two_classes():
    one = keras.ops.convert_to_tensor([[0.25], [0.9]])
    np.testing.assert_allclose(_probabilities_of(one, np.array([0, 1])), [[0.75, 0.25], [0.1, 0.9]], atol=1e-6)
    logit = keras.ops.convert_to_tensor([[-3.0]])
    np.testing.assert_allclose(_probabilities_of(logit, np.array([0]))[0, 1], keras.ops.sigmoid(-3.0), atol=1e-6)


def test_what_cannot_be_drawn_is_refused_before_the_first_step(tmp_path):
    model = make_model(classes=5)
    with pytest.raises(ValueError, match="labels from 0 to 9, but the model has 5 classes"):
        tfdist.fit(model, tfdist.data.digits(), verbose=0, callbacks=[PredictionSheet(tmp_path, tfdist.data.digits())])
    assert model.optimizer.iterations == 0
    rows = tfdist.data.from_arrays(np.ones((4, 3)), np.zeros(4), global_batch=2, name="table")
    with pytest.raises(ValueError, match=r"the rows of table have the shape \(3,\)\. Give a source of images"):
        tfdist.fit(jobs.make_mlp(), jobs.small_source(4), verbose=0, callbacks=[PredictionSheet(tmp_path, rows)])
    with pytest.raises(ValueError, match=r"Give a source of \(images, labels\)\."):
        PredictionSheet(tmp_path, tfdist.data.from_arrays(np.ones((4, 3)), global_batch=2))
    with pytest.raises(ValueError, match="PredictionSheet: rows is 0"):
        PredictionSheet(tmp_path, rows, rows=0)


def test_without_matplotlib_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(sheet.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError) as error:
        PredictionSheet(tmp_path, tfdist.data.digits())
    message = "a sheet of predictions is drawn by matplotlib. Install it: pip install matplotlib."
    assert str(error.value) == message
