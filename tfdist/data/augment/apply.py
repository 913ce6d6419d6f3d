"""Applies augmentations of images to a batch of images, labels and weights."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfdist.data.transforms import rows_before
from tfdist.internals.access.tracing import as_written, converted
from tfdist.process.errors import UsageError

# (images (B, ...), seeds int64 (B, 2)) → images.
Augmentation = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def on_images(*functions: Augmentation) -> Callable[[Any, tf.Tensor], Any]:
    """Makes a transform for `Source.map` that applies the functions in turn to the batch's first part.

    Raises:
        ValueError: a function mixes rows, and so their labels too.
    """
    if mixing := [function for function in functions if rows_before(function)]:
        raise UsageError(
            f"on_images: {mixing[0]!r} mixes rows with their labels, and not images alone. Map it on its own: "
            "source.map(on_images(...)).map(augment.one_hot(classes)).map(augment.mixup())."
        )
    # Functions of the user's own may need AutoGraph.
    own = [converted(function) for function in functions]

    @as_written
    def transform(batch: Any, seeds: tf.Tensor) -> Any:
        images, *rest = batch if isinstance(batch, tuple) else (batch,)
        for function in own:
            images = function(images, seeds)
        return (images, *rest) if isinstance(batch, tuple) else images

    return transform
