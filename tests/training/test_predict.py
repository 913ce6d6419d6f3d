"""Outputs of every type, of all replicas, against Keras' `predict` on one device."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import jobs
from support.worker_jobs import outputs

import tfdist

CARRIED = [tf.float32, tf.float64, tf.int32, tf.bool, tf.bfloat16, tf.int8, tf.uint8, tf.int16, tf.complex64, tf.uint64]


@pytest.mark.core
@pytest.mark.parametrize("dtype", [*CARRIED, tf.string], ids=lambda dtype: dtype.name)
def test_outputs_of_any_type_come_in_the_order_of_the_rows(make_strategy, dtype):
    x = outputs.rows()
    with make_strategy(3).scope():
        model = outputs.model_of(dtype)
    found = tfdist.predict(model, x, batch_size=4, verbose=0)
    expected = outputs.expected(x, dtype)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_a_model_in_mixed_bfloat16_predicts(make_strategy):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        with make_strategy(2).scope():
            model = jobs.make_mlp()
    finally:
        keras.config.set_dtype_policy("float32")
    x, _ = jobs.make_rows(10, "float32")
    np.testing.assert_array_equal(tfdist.predict(model, x, batch_size=4, verbose=0), model.predict(x, verbose=0))


def test_two_workers_exchange_outputs_of_any_type_but_strings(two_workers):
    for done in two_workers(outputs.predict_each, tuple(dtype.name for dtype in CARRIED)):
        found, refusal = done.value
        for dtype in CARRIED:
            np.testing.assert_array_equal(found[dtype.name], outputs.expected(outputs.rows(), dtype))
        assert "predict_step returned string, which workers cannot exchange" in refusal


@pytest.mark.parametrize("own_rows", [False, True])
def test_averaged_weights_predict_and_the_weights_themselves_stay(make_strategy, own_rows):
    strategy = make_strategy(2)
    x = np.random.default_rng(0).normal(size=(10, 3)).astype("float32")
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, name="dense")])
        model.compile(keras.optimizers.SGD(0.1, use_ema=True), "mse")
        model.optimizer.build(model.trainable_variables)
        for average in model.optimizer._model_variables_moving_average:
            average.assign(keras.ops.ones(average.shape))
    before = model.get_weights()
    # The end of a prediction leaves the averages where they were: a second one has the same outputs.
    for _ in range(2):
        swap = [keras.callbacks.SwapEMAWeights()]
        found = tfdist.predict(model, x, batch_size=4, verbose=0, callbacks=swap, own_rows=own_rows)
        if own_rows:
            places, parts = zip(*found, strict=True)
            found = np.concatenate(parts)[np.argsort(np.concatenate(places))]
        np.testing.assert_allclose(found, x.sum(1, keepdims=True) + 1, atol=1e-6)
        for now, then in zip(model.get_weights(), before, strict=True):
            np.testing.assert_allclose(now, then, atol=1e-6)
