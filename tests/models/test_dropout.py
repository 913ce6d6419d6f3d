"""Dropout of whole rows; tests/internals/patches/test_randomness.py and the equivalence table have the rest."""

import keras
import numpy as np

from tfdist.models.dropout import RowDropout


def test_whole_rows_are_dropped_and_the_others_scaled():
    layer = RowDropout(0.25, seed=1, whole_rows=True)
    rows = np.ones((4000, 3, 2), "float32")
    given = np.asarray(layer(rows, training=True)).reshape(4000, -1)
    np.testing.assert_array_equal(given, np.repeat(given[:, :1], 6, axis=1))
    kept = given[:, 0] > 0
    np.testing.assert_allclose(given[kept, 0], 1 / 0.75, rtol=1e-6)
    # Three standard deviations of the fraction.
    assert abs(kept.mean() - 0.75) < 0.021
    assert not np.array_equal(kept, np.asarray(layer(rows, training=True))[:, 0, 0] > 0)


def test_nothing_is_dropped_in_a_prediction_and_the_option_is_saved():
    layer = RowDropout(0.5, whole_rows=True)
    again = RowDropout.from_config(keras.saving.deserialize_keras_object(layer.get_config()))
    assert again.whole_rows
    np.testing.assert_array_equal(again(np.ones((3, 2))), np.ones((3, 2)))
