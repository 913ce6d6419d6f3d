"""Augmentation: each row draws from its own seed, so that the result is the same on any number of replicas.

Each function here makes a function (images float32 (B, H, W, C), seeds int64 (B, 2)) → images; B
may be 0. The first function may take the encoded images of a source loaded with `encoded=True`:
`decode_resized_crop` and `decode_centre_crop` decode them.

Example:
    ```python
    from tfdist import data
    from tfdist.data import augment

    train = data.digits(global_batch=64)
    train = train.map(augment.on_images(augment.pad_crop(1), augment.normalise(0.3, 0.4)))
    images, labels = next(iter(train.dataset()))
    ```
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfdist.data import pixels
from tfdist.internals.access.tracing import as_written, converted
from tfdist.ops import hashing
from tfdist.process.errors import UsageError

# Each kind has its own stream of random numbers: otherwise a row's flip and its crop would depend on each other.
_FLIP, _CROP, _RESIZED_CROP = 11, 12, 13

# (images (B, ...), seeds int64 (B, 2)) → images.
Augmentation = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def on_images(*functions: Augmentation) -> Callable[[Any, tf.Tensor], Any]:
    """Makes a transform for `Source.map` that applies the functions in turn to the batch's first part."""

    # Functions of the user's own may need AutoGraph.
    own = [converted(function) for function in functions]

    @as_written
    def transform(batch: Any, seeds: tf.Tensor) -> Any:
        images, *rest = batch if isinstance(batch, tuple) else (batch,)
        for function in own:
            images = function(images, seeds)
        return (images, *rest) if isinstance(batch, tuple) else images

    return transform


def flip() -> Augmentation:
    """Mirrors images left to right, each with probability 1/2."""

    @as_written
    def apply(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        coin = _coin(seeds)
        # Three dimensions, and a choice of whole rows: TensorFlow has fast kernels only for these two.
        lines = tf.reshape(images, tf.concat([[-1], tf.shape(images)[2:]], axis=0))
        mirrored = tf.reshape(tf.reverse(lines, [1]), tf.shape(images))
        return tf.ensure_shape(tf.compat.v1.where(coin, mirrored, images), images.shape)

    return apply


def _coin(seeds: tf.Tensor) -> tf.Tensor:
    """Returns which images are mirrored: bool (B,)."""
    return hashing.uniforms(seeds, 1, stream=_FLIP)[:, 0] < 0.5


def pad_crop(padding: int) -> Augmentation:
    """Pads with zeros on all sides and crops to the old size at a random place.

    He et al., "Deep Residual Learning for Image Recognition", 2015, section 4.2, for CIFAR-10.
    """

    @as_written
    def apply(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        height, width = tf.shape(images)[1], tf.shape(images)[2]
        places = hashing.uniforms(seeds, 2, stream=_CROP) * (2 * padding + 1)
        top, left = tf.split(tf.cast(places, tf.int32), 2, axis=1)
        padded = tf.pad(images, [[0, 0], [padding, padding], [padding, padding], [0, 0]])
        rows = tf.gather(padded, top + tf.range(height), axis=1, batch_dims=1)
        cut = tf.gather(rows, left + tf.range(width), axis=2, batch_dims=1)
        return tf.ensure_shape(cut, images.shape)

    return apply


def resized_crop(
    size: tuple[int, int], *, area: tuple[float, float] = (0.08, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3)
) -> Augmentation:
    """Cuts out a part of random area and proportion, and resizes it bilinearly.

    Szegedy et al., "Going Deeper with Convolutions", 2015, section 6. A part that would extend beyond
    the image is cut to the image; other implementations draw again.

    Args:
        size: (height, width) of the result.
        area: least and greatest share of the image.
        ratio: least and greatest width / height.
    """

    @as_written
    def apply(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        draws = tf.transpose(hashing.uniforms(seeds, 4, stream=_RESIZED_CROP))
        boxes = _boxes(draws, images, area, ratio)
        numbers = tf.range(tf.shape(images)[0])
        return tf.image.crop_and_resize(images, boxes, numbers, size)

    return apply


def decode_resized_crop(
    size: tuple[int, int],
    *,
    flip: bool = False,
    area: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Augmentation:
    """Decodes a part of random area and proportion, and resizes it bilinearly: `resized_crop` of encoded images.

    Of a JPEG, only the blocks of that part are decoded. The part has whole pixels. An image that cannot be decoded ends
    the run with TensorFlow's message, which does not name the file; a source loaded without `encoded` names it.

    Args:
        size: (height, width) of the result.
        flip: mirror the parts that `flip()` would mirror, but before they are resized, which is faster.
        area: least and greatest share of the image.
        ratio: least and greatest width / height.

    Returns:
        A function (images string (B,), seeds) → float32 (B, *size, 3) in 0..1.
    """

    @as_written
    def apply(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        draws = hashing.uniforms(seeds, 4, stream=_RESIZED_CROP)
        share = area[0] + draws[:, 0] * (area[1] - area[0])
        low, high = np.log(ratio)
        proportion = tf.exp(low + draws[:, 1] * (high - low))
        sides = tf.sqrt(tf.stack([share / proportion, share * proportion], axis=1))

        coin = _coin(seeds) if flip else tf.zeros(tf.shape(share), tf.bool)

        def one(row: tuple[tf.Tensor, ...]) -> tf.Tensor:
            data, mirrored, sides, place = row
            part = pixels.decode_part(data, lambda shape: _window(sides, place, shape))
            if flip:
                part = tf.cond(mirrored, lambda: tf.reverse(part, [1]), lambda: part)
            return tf.image.resize(part, size)

        rows = (images, coin, sides, draws[:, 2:])
        return tf.map_fn(one, rows, fn_output_signature=tf.TensorSpec((*size, 3), tf.float32)) / 255

    return apply


def decode_centre_crop(size: tuple[int, int], *, share: float = 0.875) -> Augmentation:
    """Decodes the centre of each image, and resizes it bilinearly: the crop for evaluation, in which nothing is random.

    It is the part that is left when an image is resized until its shorter side has 256 pixels and the centre of 224 x
    224 is cut out: the single crop by which accuracies on ImageNet are published, as in P. Goyal et al., "Accurate,
    Large Minibatch SGD: Training ImageNet in 1 Hour", 2017. Of a JPEG, only the blocks of that part are decoded. The
    part has whole pixels.

    Args:
        size: (height, width) of the result.
        share: side of the part, as a share of the largest part of the proportion of `size`; 224 / 256 by default.

    Returns:
        A function (images string (B,), seeds) → float32 (B, *size, 3) in 0..1.
    """
    if not 0 < share <= 1:
        raise UsageError(f"decode_centre_crop: share is {share!r}. Use a number above 0 and up to 1.")

    def window(shape: tf.Tensor) -> tf.Tensor:
        whole = tf.cast(shape, tf.float32)
        scale = share * tf.reduce_min(whole / size)
        part = tf.maximum(tf.cast(tf.round(scale * tf.constant(size, tf.float32)), tf.int32), 1)
        return tf.concat([(shape - part) // 2, part], axis=0)

    @as_written
    def apply(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        del seeds  # nothing random here

        def one(data: tf.Tensor) -> tf.Tensor:
            return tf.image.resize(pixels.decode_part(data, window), size)

        return tf.map_fn(one, images, fn_output_signature=tf.TensorSpec((*size, 3), tf.float32)) / 255

    return apply


def _window(sides: tf.Tensor, place: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Returns the part of an image to cut out, in whole pixels.

    Args:
        sides: float32 (2,), (height, width) for an image of area 1.
        place: float32 (2,) in [0, 1), the position within the space that is left.
        shape: int32 (2,), (height, width) of the image.

    Returns:
        int32 (4,): top, left, height, width.
    """
    whole = tf.cast(shape, tf.float32)
    part = tf.minimum(sides * tf.sqrt(tf.reduce_prod(whole)), whole)
    part = tf.cast(tf.maximum(part, 1.0), tf.int32)
    corner = tf.cast(place * tf.cast(shape - part + 1, tf.float32), tf.int32)
    return tf.concat([corner, part], axis=0)


def _boxes(draws: tf.Tensor, images: tf.Tensor, area: tuple[float, float], ratio: tuple[float, float]) -> tf.Tensor:
    """Returns random boxes for `tf.image.crop_and_resize`, float32 (B, 4)."""
    height, width = tf.unstack(tf.cast(tf.shape(images)[1:3], tf.float32))
    share = area[0] + draws[0] * (area[1] - area[0])
    low, high = np.log(ratio)
    proportion = tf.exp(low + draws[1] * (high - low)) * height / width
    tall = tf.minimum(tf.sqrt(share / proportion), 1.0)
    wide = tf.minimum(tf.sqrt(share * proportion), 1.0)
    top, left = draws[2] * (1 - tall), draws[3] * (1 - wide)
    return tf.stack([top, left, top + tall, left + wide], axis=1)


def normalise(mean: float | Sequence[float], std: float | Sequence[float]) -> Augmentation:
    """Subtracts a mean and divides by a standard deviation, one of each per channel."""

    @as_written
    def apply(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        del seeds  # nothing random here
        _, _, width, channels = tf.unstack(tf.shape(images))

        # A whole line of pixels, because TensorFlow broadcasts slowly over a dimension as short as the channels.
        def line(values: float | Sequence[float]) -> tf.Tensor:
            return tf.tile(tf.broadcast_to(tf.constant(values, tf.float32), [channels]), [width])

        lines = tf.reshape(images, [-1, width * channels])
        return tf.ensure_shape(tf.reshape((lines - line(mean)) / line(std), tf.shape(images)), images.shape)

    return apply
