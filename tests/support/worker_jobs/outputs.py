"""Models whose outputs have a given type, for `tests/training/test_predict.py`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdist


class Typed(keras.Model):
    """Returns the rows as another type."""

    def __init__(self, dtype):
        super().__init__()
        self._type = dtype

    def call(self, x):
        return _as_type(x, self._type)


def _as_type(x, dtype):
    if dtype == tf.string:
        return tf.strings.as_string(tf.cast(x, tf.int32))
    if dtype == tf.complex64:
        return tf.complex(x, -x)
    return tf.cast(x > 3, dtype) if dtype == tf.bool else tf.cast(x, dtype)


def rows():
    """Returns the rows: float32 (11, 2)."""
    return np.arange(22, dtype="float32").reshape(11, 2)


def model_of(dtype):
    """Returns a model whose outputs have the type."""
    model = Typed(dtype)
    model.compile()
    return model


def expected(x, dtype):
    """Returns the outputs for the rows."""
    return _as_type(tf.constant(x), dtype).numpy()


def predict_each(strategy, names):
    """Returns (name of a type → the outputs, the refusal of strings)."""
    found = {}
    for name in names:
        with strategy.scope():
            model = model_of(tf.as_dtype(name))
        found[name] = tfdist.predict(model, rows(), batch_size=4, verbose=0)
    with strategy.scope():
        model = model_of(tf.string)
    with pytest.raises(ValueError) as refused:
        tfdist.predict(model, rows(), batch_size=4, verbose=0)
    return found, str(refused.value)
