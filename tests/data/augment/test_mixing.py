"""Mixing of rows and labels, against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.splitmix import SEEDS, numpy_uniforms

from tfdist.data import augment
from tfdist.data.augment import draws

CLASSES = 4
LABELS = np.array([3, 0, 1, 2, 1])
HOT = np.eye(CLASSES, dtype=np.float32)[LABELS]
WEIGHTS = np.arange(5, dtype=np.float32)


def images(rows=5):
    return np.random.default_rng(1).random((rows, 20, 30, 3), np.float32)


def rolled(transform, *batch):
    """Calls a transform as a source does, with the last row before the first one."""
    wrapped = tuple(tf.concat([part[-1:], part], axis=0) for part in batch)
    return transform(wrapped, tf.concat([SEEDS[-1:], SEEDS], axis=0))


def lambdas(uniforms, alpha):
    return draws.symmetric_beta(alpha)[(uniforms * 65536).astype(int)]


@pytest.mark.parametrize("probability", [0.3, 1.0])
def test_mixup_blends_each_row_and_its_label_with_the_row_before(probability):
    coin, level = numpy_uniforms(2, stream=16).T
    own = np.where(coin < probability, lambdas(level, 0.4), 1)
    assert (own == 1).any() == (probability < 1)
    x, y, w = rolled(augment.mixup(0.4, probability=probability), images(), HOT, WEIGHTS)
    for ours, rows in ((x, images()), (y, HOT)):
        share = own.reshape(-1, *[1] * (rows.ndim - 1))
        np.testing.assert_allclose(ours, share * rows + (1 - share) * np.roll(rows, 1, axis=0), atol=1e-6)
    np.testing.assert_array_equal(w, WEIGHTS)
    assert x.shape == (5, 20, 30, 3)


def cut(values, hot, alpha, probability):
    """Pastes a rectangle of the row before into each row of SEEDS, in NumPy."""
    before, labels, (_, height, width, _) = np.roll(values, 1, axis=0), [], values.shape
    result = values.copy()
    for row, (coin, level, *centre) in enumerate(numpy_uniforms(4, stream=17)):
        side = np.sqrt(1 - lambdas(level, alpha)) if coin < probability else 0
        ends = []
        for place, length in zip(centre, (height, width), strict=True):
            size = int(side * length)
            low = int(place * length) - size // 2
            ends.append((max(low, 0), min(low + size, length)))
        (top, bottom), (left, right) = ends
        result[row, top:bottom, left:right] = before[row, top:bottom, left:right]
        share = (bottom - top) * (right - left) / (height * width)
        labels.append((1 - share) * hot[row] + share * hot[row - 1])
    return result, np.array(labels)


@pytest.mark.parametrize("probability", [0.5, 1.0])
def test_cutmix_pastes_a_rectangle_and_mixes_the_labels_by_its_area(probability):
    expected, labels = cut(images(), HOT, 1.0, probability)
    x, y, w = rolled(augment.cutmix(probability=probability), images(), HOT, WEIGHTS)
    np.testing.assert_array_equal(x, expected)
    np.testing.assert_allclose(y, labels, atol=1e-6)
    np.testing.assert_array_equal(w, WEIGHTS)
    assert (y.numpy().max(1) < 1).any()


@pytest.mark.parametrize("make", [augment.mixup, augment.cutmix])
def test_the_share_of_a_row_has_the_distribution_that_was_asked_for(make):
    rows = 4000
    seeds = tf.stack([tf.ones(rows + 1, tf.int64), tf.range(rows + 1, dtype=tf.int64)], axis=1)
    hot = tf.one_hot(tf.range(rows + 1) % 2, 2)
    x, y = make(1.0, probability=0.8)((tf.reshape(hot[:, 0], [-1, 1, 1, 1]) * tf.ones((1, 16, 16, 1)), hot), seeds)
    # The labels say what the images hold.
    np.testing.assert_allclose(x.numpy().mean((1, 2, 3)), y[:, 0], atol=1e-6)
    own = y.numpy()[np.arange(rows), np.arange(1, rows + 1) % 2]
    if make is augment.mixup:
        assert abs((own == 1).mean() - 0.2) < 0.03
        assert abs(own[own < 1].mean() - 0.5) < 0.02
        assert abs(own[own < 1].var() - 1 / 12) < 0.01
    else:
        # At the edges, rectangles are cut: less than one half is pasted, and of 80 %.
        assert 0.65 < own.mean() < 0.8


def test_labels_are_smoothed_as_keras_does_it():
    x, y, w = augment.one_hot(CLASSES, smoothing=0.1)((tf.constant(images()), tf.constant(LABELS), WEIGHTS), SEEDS)
    guess = tf.nn.softmax(images()[:, 0, 0, :1] * np.arange(CLASSES, dtype=np.float32))
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1, reduction=None)(HOT, guess)
    np.testing.assert_allclose(keras.losses.categorical_crossentropy(y, guess), loss, rtol=1e-6)
    np.testing.assert_array_equal(x, images())
    np.testing.assert_array_equal(w, WEIGHTS)
    np.testing.assert_array_equal(augment.one_hot(CLASSES)((x, tf.constant(LABELS[:, None])), SEEDS)[1], HOT)


@pytest.mark.parametrize("labels", [[0, 1, 4, 2, 1], [0, 1, -1, 2, 1]])
def test_a_label_that_is_no_class_ends_the_run_by_name(labels):
    data = tf.data.Dataset.from_tensors(((images(), tf.constant(labels)), SEEDS)).map(augment.one_hot(CLASSES))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"one_hot: there are labels from .*Use labels in 0\.\.3"):
        next(iter(data))


@pytest.mark.parametrize("last", [(), (1,)])
def test_masks_get_one_dimension_of_classes(last):
    masks = np.random.default_rng(2).integers(0, CLASSES, (5, 20, 30, *last))
    _, hot = augment.one_hot(CLASSES)((tf.constant(images()), tf.constant(masks)), SEEDS)
    np.testing.assert_array_equal(hot, np.eye(CLASSES)[masks.reshape(5, 20, 30)])


@pytest.mark.parametrize("transform", [augment.mixup(), augment.cutmix()])
def test_no_rows_stay_no_rows(transform):
    # The one row is that before them.
    batches = tf.data.Dataset.from_tensors(((images(1), HOT[:1]), SEEDS[:1])).map(transform)
    x, y = next(iter(batches))
    assert (x.shape, y.shape) == ((0, 20, 30, 3), (0, CLASSES))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: augment.one_hot(0), "one_hot: classes is 0. Use a whole number from 1."),
        (lambda: augment.one_hot(3, smoothing=2), "one_hot: smoothing is 2. Use a number from 0 to 1."),
        (lambda: augment.mixup(0), "mixup: alpha is 0. Use a number above 0."),
        (lambda: augment.cutmix(-1.0), "cutmix: alpha is -1.0. Use a number above 0."),
        (lambda: augment.mixup(probability=-1), "mixup: probability is -1. Use a number from 0 to 1."),
        (lambda: augment.cutmix(probability="half"), "cutmix: probability is 'half'. Use a number from 0 to 1."),
        (
            lambda: rolled(augment.mixup(), images(), LABELS),
            "mixup: the labels are int64 (5,), which cannot be mixed. Map augment.one_hot(classes) before it, and use "
            "a loss such as categorical_crossentropy.",
        ),
        (
            lambda: rolled(augment.cutmix(), np.zeros((5, 4), np.float32), HOT),
            "cutmix: the images are float32 (5, 4). Use floats (B, H, W, C).",
        ),
        (
            lambda: augment.one_hot(CLASSES)((tf.constant(images()), tf.constant(HOT)), SEEDS),
            "one_hot: the labels are float32 (5, 4). Use whole numbers, once.",
        ),
        (
            lambda: augment.one_hot(CLASSES)(tf.constant(LABELS), SEEDS),
            "one_hot: a batch is <class 'tensorflow.python.framework.ops.EagerTensor'>. Use a tuple (images, labels, "
            "...).",
        ),
    ],
)
def test_what_cannot_be_mixed_is_refused(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == message
