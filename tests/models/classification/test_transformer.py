"""The vision transformers: what they compute, what they refuse, and two replicas against one device."""

import contextlib

import keras
import numpy as np
import pytest

import tfdist
from tfdist import models
from tfdist.models.classification import transformer
from tfdist.models.positions import sincos_positions

pytestmark = pytest.mark.core

PLAIN = {"position": "sincos", "pool": "average"}


@pytest.fixture
def thin(monkeypatch):
    """Makes ViT-Ti/16 one layer of width 8 with two heads."""
    monkeypatch.setitem(transformer._SIZES, "vit_ti16", (1, 8, 2))


def images(rows, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, 32, 48, 3)).astype("float32")


def norm(x, layer):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-6) * layer.gamma.numpy() + layer.beta.numpy()


def softmax(x):
    odds = np.exp(x - x.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)


def attention(y, layer):
    query, key, value, out = (
        part.kernel.numpy() for part in (layer.query_dense, layer.key_dense, layer.value_dense, layer.output_dense)
    )
    q, k, v = (np.einsum("btd,dhe->bthe", y, kernel) for kernel in (query, key, value))
    weights = softmax(np.einsum("bthe,bshe->bhts", q, k) / np.sqrt(q.shape[-1]))
    return np.einsum("bthe,hed->btd", np.einsum("bhts,bshe->bthe", weights, v), out)


def in_numpy(model, x, pool, position):
    """Computes the probabilities of a transformer of one layer, whose biases are zero."""
    layer = model.get_layer
    patches = x.reshape(len(x), 2, 16, 3, 16, 3).transpose(0, 1, 3, 2, 4, 5).reshape(len(x), 6, -1)
    t = patches @ layer("patches").kernel.numpy().reshape(-1, 8)
    if position == "sincos":
        t = t + sincos_positions(2, 3, 8)
    if pool == "token":
        t = np.concatenate([np.zeros((len(x), 1, 8)), t], axis=1)
    if position == "learned":
        t = t + layer("positions").positions.numpy()
    t = t + attention(norm(t, layer("layer1_norm1")), layer("layer1_attention"))
    hidden = norm(t, layer("layer1_norm2")) @ layer("layer1_dense1").kernel.numpy()
    t = t + np.asarray(keras.ops.gelu(hidden, approximate=False)) @ layer("layer1_dense2").kernel.numpy()
    t = norm(t, layer("norm"))
    t = t[:, 0] if pool == "token" else t.mean(1)
    return softmax(t @ layer("probabilities").kernel.numpy())


@pytest.mark.parametrize("pool", transformer.POOLS)
@pytest.mark.parametrize("position", transformer.POSITIONS)
@pytest.mark.usefixtures("thin")
def test_it_computes_what_numpy_does(pool, position):
    keras.utils.set_random_seed(0)
    model = models.vit_ti16(3, (32, 48, 3), pool=pool, position=position)
    model.get_layer("probabilities").kernel.assign(np.random.default_rng(1).normal(size=(8, 3)))
    np.testing.assert_allclose(model(images(2)), in_numpy(model, images(2), pool, position), atol=1e-5)


@pytest.mark.usefixtures("thin")
def test_the_kernels_of_attention_start_as_matrices_do():
    keras.utils.set_random_seed(0)
    layer = models.vit_ti16(3, (16, 16, 3)).get_layer("layer1_attention")
    limit = np.sqrt(6 / 16)
    kernels = [part.kernel.numpy() for part in (layer.query_dense, layer.key_dense, layer.output_dense)]
    assert all(0.8 * limit < np.abs(kernel).max() <= limit for kernel in kernels)
    assert not np.array_equal(kernels[0], kernels[1])


@pytest.mark.parametrize("shape", [(32, 40, 3), (30, 32, 3)])
def test_an_image_that_is_no_whole_number_of_patches_is_refused(shape):
    with pytest.raises(ValueError) as refused:
        models.build("vit_s16", classes=3, input_shape=shape)
    assert str(refused.value) == (
        f"models: vit_s16: input_shape is {shape}, but the image is cut into patches of 16 x 16 pixels. "
        "Give a height and a width that are multiples of 16."
    )


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("position", "sincoss", "Use 'learned' or 'sincos'. Did you mean 'sincos'?"),
        ("pool", "max", "Use 'token' or 'average'."),
        ("dropout", 1.0, "Use a number with 0 ≤ dropout < 1, such as 0.5."),
    ],
)
def test_an_option_out_of_its_range_is_refused(option, value, message):
    with pytest.raises(ValueError) as refused:
        models.build("vit_s16", classes=3, input_shape=(32, 32, 3), **{option: value})
    assert str(refused.value) == f"models: vit_s16: {option} is {value!r}. {message}"


def train(fit, scope, **arguments):
    keras.utils.set_random_seed(2)
    with scope:
        model = models.vit_ti16(3, (32, 48, 3), dropout=0.2, **PLAIN)
        model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    before = np.concatenate([np.ravel(weight) for weight in model.get_weights()])
    fit(model, images(5), np.arange(5) % 3, batch_size=3, shuffle=False, verbose=0, **arguments)
    return before, np.concatenate([np.ravel(weight) for weight in model.get_weights()])


@pytest.mark.usefixtures("thin", "float64")
def test_two_replicas_and_xla_give_the_weights_of_keras_on_one_device(make_strategy):
    before, plain = train(keras.Model.fit, contextlib.nullcontext())
    _, replicas = train(tfdist.fit, make_strategy(2).scope())
    _, xla = train(tfdist.fit, contextlib.nullcontext(), jit_compile=True)
    # The classifier starts at zero, so the layers before it move from the second step.
    assert np.mean(plain != before) > 0.9
    np.testing.assert_allclose(replicas, plain, rtol=0, atol=1e-9)
    np.testing.assert_allclose(xla, plain, rtol=0, atol=1e-9)
