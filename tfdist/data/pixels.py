"""Images: from encoded bytes to float32 of one size."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfdist.internals.access.tracing import as_written
from tfdist.ops.refusals import refuse_unless
from tfdist.options.checks import is_count
from tfdist.process.errors import UsageError


def check_size(place: str, name: str, size: Any) -> tuple[int, int]:
    """Returns (height, width) as a tuple; raises UsageError, which begins with a place, for what is no such pair."""
    if isinstance(size, list | tuple) and len(size) == 2 and all(map(is_count, size)):
        return int(size[0]), int(size[1])
    raise UsageError(f"{place}: {name} is {size!r}. Use two whole numbers from 1: (height, width).")


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


def resize_mask(mask: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Resizes (H, W, C) of class numbers: each pixel is the nearest one, of the type that it has."""
    return tf.image.resize(mask, size, method="nearest")


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
    where: tf.Tensor | str,
    channels: int = 3,
    keep_aspect: bool = False,
) -> tf.Tensor:
    """Decodes PNGs, JPEGs, BMPs and GIFs (their first frames).

    Args:
        data: string (B,), the encoded images.
        size: (height, width).
        where: see `map_images`.
        channels: 3 for RGB, 1 for grey.
        keep_aspect: see `resize`.

    Returns:
        float32 (B, *size, channels) in 0..1.

    Raises:
        tf.errors.InvalidArgumentError: some are not images; the message names the first one, and counts the others.
    """

    def decoded(data: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_image(data, channels=3, expand_animations=False)
        image = to_floats(tf.ensure_shape(image, (None, None, 3)))
        image = image if channels == 3 else tf.image.rgb_to_grayscale(image)
        return resize(image, size, keep_aspect=keep_aspect)

    return map_images(decoded, data, tf.TensorSpec((*size, channels), tf.float32), where=where)


def map_images(
    function: Callable[[Any], tf.Tensor],
    rows: Any,
    spec: tf.TensorSpec,
    *,
    where: tf.Tensor | str,
    cure: str = "Repair it or remove it.",
) -> tf.Tensor:
    """Applies a function that decodes an image to each of several rows.

    Args:
        function: a function from a row to an image of floats.
        rows: nested tensors (B, ...).
        spec: the spec of what the function returns.
        where: string (B,), the names of the images in the error; or a name for all of them.
        cure: what the error says to do.

    Returns:
        A tensor (B, ...).

    Raises:
        tf.errors.InvalidArgumentError: an image cannot be decoded; the message is `tfdist.ops.refusals`' own.
    """

    def apply(rows: Any) -> tf.Tensor:
        return tf.map_fn(function, rows, fn_output_signature=spec)

    def refuse(rows: Any) -> tf.Tensor:
        broken = ~tf.map_fn(lambda row: _succeeds(function, row), rows, fn_output_signature=tf.TensorSpec((), tf.bool))
        names = tf.boolean_mask(tf.broadcast_to(where, tf.shape(broken)), broken)[:1]
        count = tf.reduce_sum(tf.cast(broken, tf.int32))
        more = tf.where(count > 1, tf.strings.format(" (and {} more of this batch)", count - 1), "")
        message = tf.strings.reduce_join(names), more, f": cannot be decoded as an image. {cure}"
        with tf.control_dependencies([refuse_unless(count == 0, *message)]):
            # The error was another one, and comes again.
            return apply(tf.nest.map_structure(tf.identity, rows))

    return _first_success(apply, refuse, rows)


def _succeeds(function: Callable[[Any], tf.Tensor], row: Any) -> tf.Tensor:
    def attempt(row: Any) -> tf.Tensor:
        # Of the values themselves: TensorFlow would not compute what only a control dependency needs.
        return tf.reduce_any(tf.math.is_finite(function(row)))

    return _first_success(attempt, lambda row: tf.constant(False), row)


def _first_success(
    function: Callable[[Any], tf.Tensor], otherwise: Callable[[Any], tf.Tensor], value: Any
) -> tf.Tensor:
    """Returns what a function returns for a value, or where it fails, what another one does."""
    # A graph has no `try`, but a data set can drop its error: the next element is then that of the other function. For
    # a whole batch, because a data set for each image takes three times as long as decoding a small one.
    once = tf.data.Dataset.from_tensors((value,))
    attempts = once.map(as_written(function)).ignore_errors().concatenate(once.map(as_written(otherwise)))
    result: tf.Tensor = attempts.take(1).get_single_element()
    return result
