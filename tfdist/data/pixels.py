"""Images: from encoded bytes to float32 of one size."""

from collections.abc import Callable

import tensorflow as tf

from tfdist.internals.access.tracing import as_written


def to_floats(images: tf.Tensor) -> tf.Tensor:
    """Turns whole numbers into float32 in 0..1; floats keep their values."""
    images = tf.convert_to_tensor(images)
    scale = 1 if images.dtype.is_floating else images.dtype.max
    return tf.cast(images, tf.float32) / scale


def resize(images: tf.Tensor, size: tuple[int, int], *, keep_aspect: bool = False) -> tf.Tensor:
    """Resizes (..., H, W, C) to float32 of `size`, with anti-aliasing.

    Args:
        images: whole numbers, or floats in 0..1.
        size: (height, width).
        keep_aspect: cut the sides off first, so that the centre keeps its aspect ratio.
    """
    images = to_floats(images)
    if keep_aspect:
        images = _centre(images, size)
    return tf.image.resize(images, size, antialias=True)


def _centre(images: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    height, width = tf.shape(images)[-3], tf.shape(images)[-2]
    kept_height = tf.maximum(1, tf.minimum(height, width * size[0] // size[1]))
    kept_width = tf.maximum(1, tf.minimum(width, height * size[1] // size[0]))
    top, left = (height - kept_height) // 2, (width - kept_width) // 2
    return images[..., top : top + kept_height, left : left + kept_width, :]


def decode_part(data: tf.Tensor, window: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Decodes a part of one PNG, JPEG, BMP or GIF (its first frame); of a JPEG, only that part is decoded.

    Args:
        data: string (), the encoded image.
        window: a function from the image's (height, width), int32 (2,), to int32 (4,): top, left, height, width.

    Returns:
        uint8 (height, width, 3).
    """

    def part_of_jpeg() -> tf.Tensor:
        part = window(tf.io.extract_jpeg_shape(data)[:2])
        return tf.ensure_shape(tf.io.decode_and_crop_jpeg(data, part, channels=3), (None, None, 3))

    def part_of_other() -> tf.Tensor:
        image = tf.io.decode_image(data, channels=3, expand_animations=False)
        image = tf.ensure_shape(image, (None, None, 3))
        top, left, height, width = tf.unstack(window(tf.shape(image)[:2]))
        return image[top : top + height, left : left + width]

    return tf.cond(tf.io.is_jpeg(data), part_of_jpeg, part_of_other)


def decode(
    data: tf.Tensor,
    size: tuple[int, int],
    *,
    where: tf.Tensor,
    channels: int = 3,
    keep_aspect: bool = False,
) -> tf.Tensor:
    """Decodes one PNG, JPEG, BMP or GIF (its first frame).

    Args:
        data: string (), the encoded image.
        size: (height, width).
        where: string (), the name of this image in the error.
        channels: 3 for RGB, 1 for grey.
        keep_aspect: see `resize`.

    Returns:
        float32 (*size, channels) in 0..1.

    Raises:
        tf.errors.InvalidArgumentError: the bytes are not an image; the message names `where`.
    """

    def attempt(data: tf.Tensor) -> tuple[tf.Tensor, bool]:
        image = tf.io.decode_image(data, channels=3, expand_animations=False)
        image = to_floats(tf.ensure_shape(image, (None, None, 3)))
        image = image if channels == 3 else tf.image.rgb_to_grayscale(image)
        return resize(image, size, keep_aspect=keep_aspect), True

    # A graph has no `try`, but a data set of one image can drop its error: the next element then shows the failure.
    failed = tf.data.Dataset.from_tensors((tf.zeros((*size, channels)), False))
    attempts = tf.data.Dataset.from_tensors(data).map(as_written(attempt)).ignore_errors().concatenate(failed)
    image, decoded = attempts.take(1).get_single_element()
    message = tf.strings.join([where, ": cannot be decoded as an image. Repair it or remove it."])
    with tf.control_dependencies([tf.debugging.Assert(decoded, [message])]):
        return tf.identity(image)
