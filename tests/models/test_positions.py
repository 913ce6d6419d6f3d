"""The layers of tokens, against NumPy."""

import keras
import numpy as np
import pytest

from tfdist.models.positions import ClassToken, LearnedPositions, SinCosPositions, sincos_positions

TOKENS = np.random.default_rng(0).normal(size=(2, 6, 8)).astype("float32")


def test_the_positions_of_a_grid_are_those_of_the_formula():
    given = sincos_positions(2, 3, 8)
    # Row by row: the last patch is at y = 1, x = 2; the frequencies are 1 and 1e-4.
    expected = [*np.sin([2, 2e-4]), *np.cos([2, 2e-4]), *np.sin([1, 1e-4]), *np.cos([1, 1e-4])]
    np.testing.assert_allclose(given[5], expected, atol=1e-12)
    np.testing.assert_array_equal(given[0], [0, 0, 1, 1, 0, 0, 1, 1])
    assert given.shape == (6, 8)


def test_the_frequencies_fall_in_equal_ratios():
    (_, second) = sincos_positions(1, 2, 16)
    np.testing.assert_allclose(np.arcsin(second[1:4]), [10 ** (-4 / 3), 10 ** (-8 / 3), 1e-4])


def test_sines_and_cosines_are_added_without_parameters():
    layer = SinCosPositions(2)
    np.testing.assert_allclose(layer(TOKENS), TOKENS + sincos_positions(2, 3, 8), atol=1e-6)
    assert layer.weights == []


def test_learned_positions_are_added_and_start_small():
    layer = LearnedPositions()
    keras.utils.set_random_seed(0)
    given = layer(TOKENS) - TOKENS
    np.testing.assert_allclose(given[0], given[1], atol=1e-6)
    np.testing.assert_allclose(given[:1], layer.positions, atol=1e-6)
    assert 0.01 < np.std(layer.positions) < 0.03


def test_the_class_token_is_put_in_front_of_each_row():
    layer = ClassToken()
    layer.build(TOKENS.shape)
    layer.token.assign(np.full((1, 1, 8), 3.0))
    given = np.asarray(layer(TOKENS))
    np.testing.assert_array_equal(given[:, 0], np.full((2, 8), 3.0))
    np.testing.assert_array_equal(given[:, 1:], TOKENS)


@pytest.mark.parametrize("layer", [ClassToken(), LearnedPositions(), SinCosPositions(2)])
def test_a_layer_knows_its_shape_and_is_made_again_from_its_arguments(layer):
    again = layer.__class__.from_config(layer.get_config())
    assert tuple(again(TOKENS).shape) == layer.compute_output_shape(TOKENS.shape)
    assert layer.compute_output_shape((None, 6, 8))[0] is None
