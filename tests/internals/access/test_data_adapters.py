"""Each of Keras' private names for data that tfdist uses does on this version what tfdist takes it to do."""

import numpy as np
import pytest
import tensorflow as tf

from tfdist.internals.access import data_adapters, models

pytestmark = pytest.mark.core


def take(arrays, *rows):
    adapter = data_adapters.make_adapter(*arrays, batch_size=2, steps_per_epoch=None, shuffle=False, class_weight=None)
    found, count, global_batch = data_adapters.arrays_of(adapter)
    assert (count, global_batch) == (3, 2)
    x, _, _ = data_adapters.as_rows(found)
    return tf.function(lambda items: data_adapters.pick(x, items))(tf.constant(rows, tf.int64))


Y = np.zeros(3)


def test_promise_37_rows_of_dense_arrays_come_in_keras_float():
    rows = take((np.array([[1.5], [2.5], [3.5]], "float16"), Y, Y), 2, 0)
    assert rows.dtype == tf.float32
    np.testing.assert_array_equal(rows, [[3.5], [1.5]])


def test_promise_37_rows_of_strings_are_taken():
    assert take((np.array(["a", "b", "c"]), Y, Y), 2, 0).numpy().tolist() == [b"c", b"a"]


def test_promise_37_rows_of_sparse_tensors_are_taken():
    dense = np.array([[0.0, 1.0], [2.0, 3.0], [0.0, 0.0]])
    rows = take((tf.sparse.from_dense(dense), Y, Y), 2, 1, 0)
    assert rows.dtype == tf.float32
    np.testing.assert_array_equal(tf.sparse.to_dense(rows), dense[[2, 1, 0]])


def test_promise_37_rows_of_ragged_tensors_are_taken():
    assert take((tf.ragged.constant([[1], [2, 3], []]), Y, Y), 1, 2).to_list() == [[2, 3], []]


def test_promise_37_absent_weights_stay_absent():
    assert data_adapters.pick(data_adapters.as_rows((Y, None)), [0])[1] is None


def test_promise_37_arrays_of_different_lengths_come_ragged():
    rows = models.ragged_rows([np.ones((1, 2)), np.ones((1, 3))])
    assert rows.to_list() == [[1, 1], [1, 1, 1]]


def test_promise_37_layers_are_built_without_compile():
    import keras

    model = keras.Sequential([keras.layers.Dense(2)])
    models.build_layers(model, (tf.TensorSpec([None, 4]), None))
    assert model.weights[0].shape == (4, 2)
