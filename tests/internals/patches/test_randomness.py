"""Random layers over replicas: masks of their own, and the same run again."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import jobs

import tfdist
from tfdist.data.sources.arrays import from_arrays
from tfdist.models.dropout import RowDropout

pytestmark = [pytest.mark.core, pytest.mark.slow, pytest.mark.oldest]


def train_noisy(strategy, layer):
    """Trains one weight per column by the mean of the outputs of `layer` for ones; returns the weights."""
    keras.utils.set_random_seed(3)
    with strategy.scope():
        model = keras.Sequential([keras.Input((16,)), layer(), keras.layers.Dense(1, use_bias=False)])
        model.compile(keras.optimizers.SGD(0.1), loss="mse")
    source = from_arrays(np.ones((12, 16)), np.ones(12), global_batch=4)
    tfdist.fit(model, source, epochs=2, verbose=0)
    return jobs.weights_of(model)


class Recorder(keras.layers.Layer):
    """Keeps, on each replica, what comes through in the last step."""

    def build(self, shape):
        kept = self.add_weight(shape=(2, shape[-1]), initializer="zeros", trainable=False)
        self.kept = tfdist.keep_per_replica(kept)

    def call(self, x, training=False):
        if training:
            self.kept.assign(x)
        return x


@pytest.mark.parametrize("layer", [keras.layers.Dropout, RowDropout, keras.layers.GaussianNoise])
def test_promise_08_masks_differ_between_replicas(make_strategy, layer):
    with make_strategy(2).scope():
        recorder = Recorder()
        model = keras.Sequential([keras.Input((64,)), layer(0.5, seed=1), recorder, keras.layers.Dense(1)])
        model.compile("sgd", loss="mse")
    tfdist.fit(model, from_arrays(np.ones((4, 64)), np.ones(4), global_batch=4), verbose=0)
    first, second = (np.asarray(value) for value in recorder.kept.value.values)
    assert not np.array_equal(first, second)
    # Rows of one replica differ as well.
    assert not np.array_equal(first[0], first[1])


@pytest.mark.parametrize("layer", [lambda: keras.layers.Dropout(0.5), lambda: RowDropout(0.5)])
@pytest.mark.parametrize("replicas", [2, 3])
def test_promise_08_a_run_is_reproducible_from_its_seed(make_strategy, layer, replicas):
    first = train_noisy(make_strategy(replicas), layer)
    np.testing.assert_array_equal(train_noisy(make_strategy(replicas), layer), first)


def test_row_dropout_is_the_same_on_any_number_of_replicas(make_strategy):
    def layer():
        return RowDropout(0.5, seed=2)

    one = train_noisy(make_strategy(1), layer)
    for replicas in (2, 3):
        np.testing.assert_allclose(train_noisy(make_strategy(replicas), layer), one, atol=1e-6)
    assert np.abs(one - train_noisy(make_strategy(1), lambda: RowDropout(0.5, seed=3))).max() > 1e-2


def test_row_dropout_drops_the_given_fraction():
    layer = RowDropout(0.25, seed=0)
    out = layer(tf.ones((200, 50)), training=True).numpy()
    dropped = (out == 0).mean()
    # Ten thousand draws: three standard deviations are 0.013.
    assert dropped == pytest.approx(0.25, abs=0.013)
    np.testing.assert_allclose(out[out > 0], 1 / 0.75)
    # No step repeats another's mask, and prediction drops nothing.
    assert not np.array_equal(out, layer(tf.ones((200, 50)), training=True))
    np.testing.assert_array_equal(layer(tf.ones((2, 3))), np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"RowDropout: rate is 1. Use 0 ≤ rate < 1"):
        RowDropout(1)


def test_a_model_with_row_dropout_is_saved_and_loaded(tmp_path):
    model = tfdist.models.build("mlp", classes=3, input_shape=(4,), dropout=0.5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_layer("dropout1").rate == 0.5
    x, _ = jobs.make_rows(5, "float32")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
