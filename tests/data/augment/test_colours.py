"""Normalisation and colours, against NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from support.splitmix import SEEDS, numpy_uniforms

from tfdist.data import augment


def images(channels=3, rows=5):
    return np.random.default_rng(1).random((rows, 6, 8, channels), np.float32)


def test_normalise_subtracts_the_mean_and_divides_by_the_deviation_of_each_channel():
    mean, std = np.array([0.1, 0.2, 0.3]), np.array([1.0, 2.0, 4.0])
    ours = augment.normalise(mean, std)(tf.constant(images()), SEEDS)
    np.testing.assert_allclose(ours, (images() - mean) / std, rtol=1e-5, atol=1e-6)


def jittered(values, amounts):
    """Changes the colours of each row of SEEDS, in NumPy."""
    values = values.astype(float)
    weights = np.array([0.299, 0.587, 0.114]) if values.shape[-1] == 3 else np.ones(1)
    for amount, drawn, reference in zip(amounts, numpy_uniforms(3, stream=14).T, range(3), strict=True):
        low = max(0, 1 - amount)
        factor = (low + drawn * (1 + amount - low)).reshape(-1, 1, 1, 1)
        grey = (values * weights).sum(-1, keepdims=True)
        other = (0, grey.mean((1, 2, 3), keepdims=True), grey)[reference]
        values = np.clip(factor * values + (1 - factor) * other, 0, 1)
    return values


@pytest.mark.parametrize("amounts", [(0.4, 0.4, 0.4), (1.5, 0, 0), (0, 1.5, 0), (0, 0, 1.5), (0.2, 0, 3.0)])
def test_colours_are_blended_with_black_the_mean_and_the_grey_of_the_pixel(amounts):
    ours = augment.colour_jitter(*amounts)(tf.constant(images()), SEEDS)
    np.testing.assert_allclose(ours, jittered(images(), amounts), atol=3e-5)
    assert np.abs(ours - images()).max() > 0.1
    assert ours.shape == (5, 6, 8, 3)


def test_grey_images_have_brightness_and_contrast():
    ours = augment.colour_jitter(0.4, 0.4)(tf.constant(images(1)), SEEDS)
    np.testing.assert_allclose(ours, jittered(images(1), (0.4, 0.4, 0)), atol=3e-5)
    with pytest.raises(ValueError, match=r"the images are \(5, 6, 8, 1\)\. Use 3 channels, or 1 without saturation"):
        augment.colour_jitter(saturation=0.1)(tf.constant(images(1)), SEEDS)


def test_no_rows_stay_no_rows():
    for function in (augment.normalise(0, 1), augment.colour_jitter(0.4, 0.4, 0.4)):
        batches = tf.data.Dataset.from_tensors((images(rows=0), SEEDS[:0])).map(function)
        assert next(iter(batches)).shape == (0, 6, 8, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "colour_jitter: brightness, contrast and saturation are 0. Give one of them, or leave it out."),
        ((0.1, -1), "colour_jitter: contrast is -1. Use a number from 0."),
        (("much",), "colour_jitter: brightness is 'much'. Use a number from 0."),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError) as error:
        augment.colour_jitter(*arguments)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: augment.normalise(0, (1, 0)), "normalise: std is (1, 0). Use numbers above 0."),
        (
            lambda: augment.normalise((0.5, 0.5), 1)(tf.constant(images()), None),
            "normalise: mean is (0.5, 0.5) and std is 1, but the images have 3 channels. Give one number of each, or "
            "one per channel.",
        ),
        (
            lambda: augment.normalise(0, 1)(tf.zeros([2, 4, 4, 3], tf.uint8), None),
            "normalise: the images are uint8 (2, 4, 4, 3). Use floats (B, H, W, C).",
        ),
        (
            lambda: augment.colour_jitter(0.1)(tf.zeros([2, 4, 4, 3], tf.uint8), None),
            "colour_jitter: the images are uint8 (2, 4, 4, 3). Use floats (B, H, W, C).",
        ),
    ],
)
def test_what_cannot_be_coloured_is_refused(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == message
