"""Checks BatchNormalization over replicas: synchronized by default, otherwise averaged by rows."""

import keras
import numpy as np
import pytest
from support import jobs

import tfdist
from tfdist.data.sources.arrays import from_arrays

pytestmark = [pytest.mark.core, pytest.mark.usefixtures("float64"), pytest.mark.slow]


def parts(variable):
    """Returns each replica's own value."""
    return [np.asarray(value) for value in variable.value.values]


@pytest.mark.parametrize("global_batch", [8, 5, 4])
def test_promise_06_without_synchronization_all_replicas_save_and_predict_the_same(make_strategy, global_batch):
    with make_strategy(3).scope():
        model = jobs.make_batchnorm_mlp()
    x, y = jobs.make_rows(29)
    tfdist.fit(model, from_arrays(x, y, global_batch=global_batch), epochs=2, verbose=0, sync_batchnorm=False)
    (layer,) = [item for item in model.layers if isinstance(item, keras.layers.BatchNormalization)]
    assert not layer.synchronized
    for variable in (layer.moving_mean, layer.moving_variance, layer.gamma, layer.beta):
        first, *others = parts(variable)
        assert np.isfinite(first).all()
        for other in others:
            np.testing.assert_array_equal(other, first)


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("before", [True, False])
def test_fit_alone_says_whether_statistics_are_of_all_replicas(make_strategy, before, wanted):
    x, y = jobs.make_rows(6)
    weights = {}
    for synchronized in (before, True, False):
        keras.utils.set_random_seed(1)
        with make_strategy(2).scope():
            norm = keras.layers.BatchNormalization(synchronized=synchronized)
            model = keras.Sequential([keras.Input((jobs.WIDTH,)), norm, keras.layers.Dense(3, activation="softmax")])
            model.compile("sgd", loss="sparse_categorical_crossentropy")
        for _ in range(2):
            tfdist.fit(model, x, y, batch_size=6, shuffle=False, verbose=0, sync_batchnorm=wanted)
            assert norm.synchronized == synchronized
        weights[synchronized] = jobs.weights_of(model)
    np.testing.assert_array_equal(weights[True], weights[False])


def test_the_networks_of_tfdist_can_be_trained_without_synchronized_statistics(make_strategy):
    x, y = np.random.default_rng(0).normal(size=(6, 4, 4, 1)), np.arange(6) % 3
    results = []
    for wanted in (True, False):
        keras.utils.set_random_seed(1)
        with make_strategy(2).scope():
            model = tfdist.models.build("cnn", classes=3, input_shape=(4, 4, 1), filters=(2,), dense=4, batch_norm=True)
            model.compile("sgd", loss="sparse_categorical_crossentropy")
        tfdist.fit(model, x, y, batch_size=6, shuffle=False, verbose=0, sync_batchnorm=wanted)
        results.append(jobs.weights_of(model))
    assert np.abs(results[0] - results[1]).max() > 1e-6


def test_promise_06_moving_statistics_are_averaged_by_rows(make_strategy):
    # One step on 5 rows: 1, 2 and 2 of them on three replicas.
    x, y = jobs.make_rows(5)
    with make_strategy(3).scope():
        inputs = keras.Input((jobs.WIDTH,))
        outputs = keras.layers.BatchNormalization(momentum=0.0, name="norm")(inputs)
        model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(outputs))
        model.compile("sgd", loss="sparse_categorical_crossentropy")
    tfdist.fit(model, x, y, batch_size=5, shuffle=False, verbose=0, sync_batchnorm=False)
    shares = [x[0:1], x[1:3], x[3:5]]
    mean = sum(len(part) / 5 * part.mean(0) for part in shares)
    variance = sum(len(part) / 5 * part.var(0) for part in shares)
    layer = model.get_layer("norm")
    np.testing.assert_allclose(layer.moving_mean.numpy(), mean, atol=1e-12)
    np.testing.assert_allclose(layer.moving_variance.numpy(), variance, atol=1e-12)


def test_promise_06_a_replica_without_rows_makes_no_nan(make_strategy):
    with make_strategy(4).scope():
        model = jobs.make_batchnorm_mlp()
    x, y = jobs.make_rows(9)
    tfdist.fit(model, from_arrays(x, y, global_batch=4), epochs=3, verbose=0)
    assert all(np.isfinite(np.asarray(weight)).all() for weight in model.weights)
