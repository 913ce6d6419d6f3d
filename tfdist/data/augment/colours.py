"""Colours: normalisation, and random brightness, contrast and saturation."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfdist.data.augment import draws
from tfdist.data.augment.apply import Augmentation
from tfdist.data.augment.checks import check_at_least, check_images
from tfdist.data.transforms import fixed
from tfdist.internals.access.tracing import as_written
from tfdist.ops import hashing
from tfdist.process.errors import UsageError

# The weights of red, green and blue in a grey value: ITU-R BT.601.
_GREY = (0.299, 0.587, 0.114)


def normalise(mean: float | Sequence[float], std: float | Sequence[float]) -> Augmentation:
    """Subtracts a mean and divides by a standard deviation, one of each per channel."""
    if not (np.asarray(std) > 0).all():
        raise UsageError(f"normalise: std is {std!r}. Use numbers above 0.")

    @fixed
    @as_written
    def apply(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        del seeds  # nothing random here
        check_images("normalise", images)
        given = {np.size(mean), np.size(std)} - {1}
        if images.shape[-1] is not None and given - {images.shape[-1]}:
            raise UsageError(
                f"normalise: mean is {mean!r} and std is {std!r}, but the images have {images.shape[-1]} channels. "
                "Give one number of each, or one per channel."
            )
        _, _, width, channels = tf.unstack(tf.shape(images))

        # A whole line of pixels, because TensorFlow broadcasts slowly over a dimension as short as the channels.
        def line(values: float | Sequence[float]) -> tf.Tensor:
            return tf.tile(tf.broadcast_to(tf.constant(values, tf.float32), [channels]), [width])

        lines = tf.reshape(images, [-1, width * channels])
        return tf.ensure_shape(tf.reshape((lines - line(mean)) / line(std), tf.shape(images)), images.shape)

    return apply


def colour_jitter(brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0) -> Augmentation:
    """Changes brightness, contrast and saturation at random, in this order.

    Each has a factor f of its own, uniform in [max(0, 1 - x), 1 + x] for the argument x: brightness is f image,
    contrast f image + (1 - f) mean of the grey values, saturation f image + (1 - f) grey value of the pixel; each
    result is clipped to 0..1. `tf.image` takes one factor for a whole tensor, and Keras' layers draw by the place in
    the batch.

    Args:
        brightness, contrast, saturation: how far the factors may be from 1; 0 for no change.

    Returns:
        A function (images float (B, H, W, C) in 0..1, seeds) → images; C is 3, or 1 without saturation.

    Raises:
        ValueError: a negative number, or three zeros.

    Example:
        ```python
        from tfdist import data
        from tfdist.data import augment

        train = data.digits(global_batch=64).map(augment.on_images(augment.colour_jitter(0.4, 0.4)))
        ```
    """
    amounts = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    for name, amount in amounts.items():
        check_at_least("colour_jitter", name, amount)
    if not any(amounts.values()):
        raise UsageError("colour_jitter: brightness, contrast and saturation are 0. Give one of them, or leave it out.")

    @as_written
    def apply(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        check_images("colour_jitter", images)
        channels = images.shape[-1]
        if channels != 3 and (saturation or channels != 1):
            raise UsageError(f"colour_jitter: the images are {images.shape}. Use 3 channels, or 1 without saturation.")
        count = tf.shape(images)[0]
        # A plane per channel, because TensorFlow broadcasts slowly over a dimension as short as the channels.
        planes = tf.unstack(tf.reshape(images, [count, tf.reduce_prod(tf.shape(images)[1:3]), channels]), axis=2)
        drawn = tf.split(hashing.uniforms(seeds, 3, stream=draws.COLOURS), 3, axis=1)
        for (name, amount), number in zip(amounts.items(), drawn, strict=True):
            if amount:
                low = max(0.0, 1.0 - amount)
                planes = _blend(planes, _REFERENCES[name], low + number * (1 + amount - low))
        return tf.ensure_shape(tf.reshape(tf.stack(planes, axis=2), tf.shape(images)), images.shape)

    return apply


def _blend(planes, reference, factor):
    """Returns factor * planes + (1 - factor) * reference(planes), clipped; factor is float32 (B, 1)."""
    blended = [factor * plane for plane in planes]
    if reference:
        other = (1 - factor) * reference(planes)
        blended = [plane + other for plane in blended]
    # One pass over the values, where `tf.clip_by_value` takes two.
    return [tf.raw_ops.ClipByValue(t=plane, clip_value_min=0.0, clip_value_max=1.0) for plane in blended]


def _grey(planes):
    """Returns the grey values: (B, H * W)."""
    if len(planes) == 1:
        return planes[0]
    red, green, blue = (weight * plane for weight, plane in zip(_GREY, planes, strict=True))
    return red + green + blue


def _mean(planes):
    """Returns the means of the grey values: (B, 1)."""
    # Whole numbers, because the order in which TensorFlow adds floats depends on the rows and on the processor.
    levels = tf.reduce_sum(tf.cast(_grey(planes) * 2.0**16, tf.int64), axis=1, keepdims=True)
    mean = tf.cast(levels, tf.float64) / tf.cast(tf.shape(planes[0])[1], tf.float64) / 2.0**16
    return tf.cast(mean, planes[0].dtype)


# Name → function (planes) → what the images are blended with; None for black.
_REFERENCES = {"brightness": None, "contrast": _mean, "saturation": _grey}
