"""Compiles a whole step for a TPU without a TPU; `tests/full/tpu_compile.py` does so for every model."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import tpu_compiler
from support.tpu_programs import TpuProgram, compile_classifier, mlp

pytestmark = pytest.mark.slow
MISSING = tpu_compiler.missing()
needs_compiler = pytest.mark.skipif(MISSING is not None, reason=f"{MISSING}")
BYTES_OF_FLOAT32 = 4


def linear():
    keras.utils.set_random_seed(7)
    layers = [keras.Input((4,)), keras.layers.BatchNormalization(), keras.layers.Dense(3, activation="softmax")]
    return compile_classifier(keras.Sequential(layers), keras.optimizers.SGD(0.2, momentum=0.9))


def spectrum():
    """A model with an operation of which a TPU has single precision alone."""

    def transform(x):
        return tf.cast(tf.math.real(tf.signal.fft(tf.cast(x, tf.complex128))), x.dtype)

    layers = [keras.Input((4,)), keras.layers.Lambda(transform), keras.layers.Dense(3, activation="softmax")]
    return compile_classifier(keras.Sequential(layers))


def test_what_is_compiled_is_the_step_of_plain_keras_on_the_rows_that_count():
    model, step = TpuProgram(linear, "fit", 8).trace()
    x, y = np.random.RandomState(0).randn(8, 4).astype("float32"), np.arange(8, dtype="int32") % 3
    counts = [tf.constant(number, tf.int64) for number in (5, 5, 0)]
    step(x, y, *counts)
    logs = step(x, y, *counts)
    plain = linear()
    rows = np.tile(np.arange(5), 2)
    history = plain.fit(x[rows], y[rows], batch_size=5, shuffle=False, verbose=0).history
    assert history == {name: [pytest.approx(float(value), abs=1e-6)] for name, value in logs.items()}
    for own, other in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(own, other, rtol=0, atol=1e-6)


@needs_compiler
def test_a_padded_training_step_with_its_reduction_compiles_for_four_chips(tmp_path):
    hlo = TpuProgram(mlp, "fit", 64, replicas=4).hlo()
    assert b"all-reduce" in hlo
    compiled = tpu_compiler.compile_for_tpu(hlo, tmp_path, replicas=4)
    parameters = 784 * 128 + 128 + 128 * 10 + 10
    # Adam keeps two moments for each parameter, and all are updated.
    assert compiled.arguments > 3 * parameters * BYTES_OF_FLOAT32
    assert compiled.outputs > 3 * parameters * BYTES_OF_FLOAT32


@needs_compiler
def test_an_operation_that_a_tpu_lacks_is_an_error_with_its_name(tmp_path):
    with pytest.raises(tpu_compiler.NotCompiled, match="Unexpected operand type for FFT: c128"):
        tpu_compiler.compile_for_tpu(TpuProgram(spectrum, "fit", 8).hlo(), tmp_path)
