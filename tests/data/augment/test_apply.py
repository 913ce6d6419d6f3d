"""Augmentations of images on whole batches."""

import numpy as np
import pytest
import tensorflow as tf
from support.splitmix import SEEDS

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
