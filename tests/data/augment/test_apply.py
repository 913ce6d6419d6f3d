"""Augmentations of images on whole batches."""

import numpy as np
import pytest
import tensorflow as tf
from support.splitmix import SEEDS

from tfdist import data
from tfdist.data import augment


def test_on_images_leaves_labels_and_weights_alone():
    transform = augment.on_images(augment.normalise(0.0, 2.0), augment.normalise(0.0, 2.0))
    x, y, w = transform((tf.ones((5, 2, 2, 1)), "labels", "weights"), SEEDS)
    assert (y, w) == ("labels", "weights")
    np.testing.assert_array_equal(x, np.full((5, 2, 2, 1), 0.25))
    np.testing.assert_array_equal(transform(tf.ones((5, 2, 2, 1)), SEEDS), x)


def test_what_mixes_labels_is_not_taken_for_a_function_of_images():
    with pytest.raises(ValueError, match=r"on_images: .* mixes rows with their labels, and not images alone\. Map it"):
        augment.on_images(augment.flip(), augment.mixup())


@pytest.mark.parametrize("functions", [(), (3,), ([augment.flip()],)])
def test_what_is_no_function_is_refused(functions):
    with pytest.raises(ValueError, match=r"on_images: the functions are .* Give functions \(images, seeds\)"):
        augment.on_images(*functions)


def test_masks_that_would_stay_while_their_images_move_are_refused_and_moved_with_the_same_seeds():
    pixels = np.random.default_rng(0).random((12, 6, 6, 1), np.float32)
    source = data.from_arrays(pixels, (255 * pixels).astype(np.int32), global_batch=4)
    with pytest.raises(ValueError, match=r"on_images: flip moves the parts .*labels are int32 .*which would stay"):
        source.map(augment.on_images(augment.colour_jitter(0.1), augment.flip())).dataset()
    flip = augment.flip()
    source = source.map(lambda batch, seeds: (flip(batch[0], seeds), flip(batch[1], seeds)))
    for images, masks in source.dataset():
        np.testing.assert_array_equal(masks, tf.cast(255 * images, tf.int32))
