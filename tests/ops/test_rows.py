"""Rows of each kind of tensor."""

import pytest
import tensorflow as tf

from tfdist.ops.rows import rows_of


@pytest.mark.parametrize(
    "make",
    [
        lambda: tf.zeros([3, 2]),
        lambda: tf.SparseTensor([[0, 1]], [1.0], [3, 2]),
        lambda: tf.RaggedTensor.from_row_lengths([1, 2], [2, 0, 0]),
    ],
    ids=["dense", "sparse", "ragged"],
)
def test_rows_of_dense_sparse_and_ragged_tensors_are_counted(make):
    part = make()
    assert rows_of(part) == 3
    assert rows_of(part).dtype == tf.int64
