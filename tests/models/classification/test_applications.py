"""What of `keras.applications` is as it was, what is not, and a part of EfficientNet on two replicas."""

import contextlib

import keras
import numpy as np
import pytest

import tfdist
from tfdist import models
from tfdist.models.dropout import RowDropout

pytestmark = [pytest.mark.core, pytest.mark.slow]


@pytest.fixture(scope="module")
def efficientnet():
    keras.utils.set_random_seed(0)
    return models.efficientnet_b0(3, (32, 32, 3), dropout=0.1, stochastic_depth=0.4)


@pytest.fixture(scope="module")
def mobilenet():
    return models.mobilenet_v2(3, (32, 32, 3), width=0.35)


def images(rows):
    return np.random.default_rng(0).random((rows, 32, 32, 3)).astype("float32")


def batchnorms(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def test_efficientnet_is_keras_own_for_images_that_are_scaled_already(efficientnet):
    plain = keras.applications.EfficientNetB0(weights=None, classes=3, input_shape=(32, 32, 3))
    scaling, (mean, variance, count) = 3, plain.layers[2].get_weights()
    assert (mean.sum(), count) == (0, 0)
    np.testing.assert_array_equal(variance, np.ones(3))
    plain.set_weights([*plain.get_weights()[:scaling], *efficientnet.get_weights()[: len(plain.weights) - scaling]])
    np.testing.assert_allclose(efficientnet(images(2)), plain(255 * images(2)), atol=1e-5)


def test_rows_skip_the_blocks_of_efficientnet_more_often_the_later_these_come(efficientnet):
    drops = [layer for layer in efficientnet.layers if isinstance(layer, RowDropout)]
    *blocks, head = drops
    # Of sixteen blocks, nine have a shortcut.
    numbers = [2, 4, 6, 7, 9, 10, 12, 13, 14]
    np.testing.assert_allclose([layer.rate for layer in blocks], [0.4 * number / 16 for number in numbers])
    assert all(layer.whole_rows for layer in blocks)
    assert (head.rate, head.whole_rows) == (0.1, False)
    assert not any(isinstance(layer, keras.layers.Dropout) for layer in efficientnet.layers)


def test_mobilenet_is_keras_own(mobilenet):
    plain = keras.applications.MobileNetV2(weights=None, classes=3, input_shape=(32, 32, 3), alpha=0.35)
    plain.set_weights([weight for weight in mobilenet.weights if "seed" not in weight.path])
    np.testing.assert_allclose(mobilenet(images(2)), plain(images(2)), atol=1e-6)


def test_statistics_are_synchronized_and_those_of_mobilenet_are_not_slow(efficientnet, mobilenet):
    assert all(layer.synchronized for model in (efficientnet, mobilenet) for layer in batchnorms(model))
    assert {layer.momentum for layer in batchnorms(mobilenet)} == {0.9}
    assert {layer.momentum for layer in batchnorms(efficientnet)} == {0.99}


def test_vgg_has_the_dropout_of_the_paper_after_each_dense_layer():
    model = models.vgg16(3, (32, 32, 3), dense=(8, 4))
    assert [(layer.name, layer.rate) for layer in model.layers if isinstance(layer, RowDropout)] == [
        ("dropout1", 0.5),
        ("dropout2", 0.5),
    ]
    assert [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)] == [8, 4, 3]


def test_a_saved_model_loads_and_gives_the_same(efficientnet, tmp_path):
    efficientnet.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images(2)), efficientnet(images(2)))
    assert all(layer.synchronized for layer in batchnorms(loaded))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mobilenet_v2", {"width": 0}, "width is 0. Use a finite number above 0, such as 1.0."),
        ("mobilenet_v2", {"dropout": "0.2"}, "dropout is '0.2'. Use a number with 0 ≤ dropout < 1, such as 0.5."),
        (
            "efficientnet_b0",
            {"stochastic_depth": 1},
            "stochastic_depth is 1. Use a number with 0 ≤ stochastic_depth < 1, such as 0.5.",
        ),
        ("vgg16", {"dense": 64}, "dense is 64. Give a tuple of whole numbers of at least 1, one per layer."),
    ],
)
def test_an_option_out_of_its_range_is_refused(name, options, message):
    with pytest.raises(ValueError) as refused:
        models.build(name, classes=3, input_shape=(32, 32, 3), **options)
    assert str(refused.value) == f"models: {name}: {message}"


@pytest.mark.parametrize("name", ["vgg16", "mobilenet_v2", "efficientnet_b0"])
def test_an_image_below_the_networks_strides_is_refused(name):
    with pytest.raises(ValueError, match=rf"{name}: input_shape is \(31, 32, 3\), but this network needs at least 32"):
        models.build(name, classes=3, input_shape=(31, 32, 3))


def train(fit, scope):
    keras.utils.set_random_seed(2)
    with scope:
        whole = models.efficientnet_b0(3, (32, 32, 3), stochastic_depth=0.4)
        # Two stages: depthwise convolutions, squeeze and excitation, one block that rows skip.
        x = keras.layers.GlobalAveragePooling2D()(whole.get_layer("block2b_add").output)
        model = keras.Model(whole.input, keras.layers.Dense(3, activation="softmax")(x))
        model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    before = np.concatenate([np.ravel(weight) for weight in model.get_weights()])
    fit(model, images(7), np.arange(7) % 3, batch_size=7, shuffle=False, verbose=0)
    return before, np.concatenate([np.ravel(weight) for weight in model.get_weights()])


@pytest.mark.usefixtures("float64")
def test_two_replicas_give_the_weights_of_keras_on_one_device(make_strategy):
    before, plain = train(keras.Model.fit, contextlib.nullcontext())
    _, replicas = train(tfdist.fit, make_strategy(2).scope())
    assert np.mean(plain != before) > 0.9
    np.testing.assert_allclose(replicas, plain, rtol=0, atol=1e-9)
