"""Flips, crops and erasing: which part of an image is seen, and which way round."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfdist.data import pixels
from tfdist.data.augment import draws
from tfdist.data.augment.apply import Augmentation, moves_pixels
from tfdist.data.augment.checks import check_encoded, check_images, check_probability, check_range
from tfdist.data.augment.rectangles import is_inside
from tfdist.data.transforms import fixed
from tfdist.internals.access.tracing import as_written
from tfdist.ops import hashing
from tfdist.options.checks import is_count
from tfdist.process.errors import UsageError


def flip() -> Augmentation:
    """Mirrors images left to right, each with probability 1/2."""

    @moves_pixels
    @as_written
    def apply(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        check_images("flip", images, floats=False)
        coin = draws.coins(seeds, 0.5, stream=draws.FLIP)
        # Three dimensions, and a choice of whole rows: TensorFlow has fast kernels only for these two.
        lines = tf.reshape(images, tf.concat([[-1], tf.shape(images)[2:]], axis=0))
        mirrored = tf.reshape(tf.reverse(lines, [1]), tf.shape(images))
        return tf.ensure_shape(tf.compat.v1.where(coin, mirrored, images), images.shape)

    return apply


def pad_crop(padding: int) -> Augmentation:
    """Pads with zeros on all sides and crops to the old size at a random place.

    He et al., "Deep Residual Learning for Image Recognition", 2015, section 4.2, for CIFAR-10.
    """
    if not is_count(padding):
        raise UsageError(f"pad_crop: padding is {padding!r}. Use a whole number from 1.")

    @moves_pixels
    @as_written
    def apply(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        check_images("pad_crop", images, floats=False)
        height, width = tf.shape(images)[1], tf.shape(images)[2]
        places = hashing.uniforms(seeds, 2, stream=draws.CROP) * (2 * padding + 1)
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
    size = _checked("resized_crop", size, area, ratio)
    proportions = draws.log_uniform(*ratio)

    @moves_pixels
    @as_written
    def apply(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        check_images("resized_crop", images)
        numbers = tf.transpose(hashing.uniforms(seeds, 4, stream=draws.RESIZED_CROP))
        boxes = _boxes(numbers, images, area, proportions)
        return tf.image.crop_and_resize(images, boxes, tf.range(tf.shape(images)[0]), size)

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
    the run with a message that does not name the file; a source loaded without `encoded` names it.

    Args:
        size: (height, width) of the result.
        flip: mirror the parts that `flip()` would mirror, but before they are resized, which is faster.
        area: least and greatest share of the image.
        ratio: least and greatest width / height.

    Returns:
        A function (images string (B,), seeds) → float32 (B, *size, 3) in 0..1.
    """
    size = _checked("decode_resized_crop", size, area, ratio)
    proportions = draws.log_uniform(*ratio)

    @moves_pixels
    @as_written
    def apply(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        check_encoded("decode_resized_crop", images)
        numbers = hashing.uniforms(seeds, 4, stream=draws.RESIZED_CROP)
        share = area[0] + numbers[:, 0] * (area[1] - area[0])
        proportion = draws.pick(proportions, numbers[:, 1])
        sides = tf.sqrt(tf.stack([share / proportion, share * proportion], axis=1))

        coin = draws.coins(seeds, 0.5, stream=draws.FLIP) if flip else tf.zeros(tf.shape(share), tf.bool)

        def one(row: tuple[tf.Tensor, ...]) -> tf.Tensor:
            data, mirrored, sides, place = row
            part = pixels.decode_part(data, lambda shape: _window(sides, place, shape))
            if flip:
                part = tf.cond(mirrored, lambda: tf.reverse(part, [1]), lambda: part)
            return tf.image.resize(part, size)

        return _decoded("decode_resized_crop", one, (images, coin, sides, numbers[:, 2:]), size)

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
    size = pixels.check_size("decode_centre_crop", "size", size)
    if not 0 < share <= 1:
        raise UsageError(f"decode_centre_crop: share is {share!r}. Use a number above 0 and up to 1.")

    def window(shape: tf.Tensor) -> tf.Tensor:
        whole = tf.cast(shape, tf.float32)
        scale = share * tf.reduce_min(whole / size)
        part = tf.maximum(tf.cast(tf.round(scale * tf.constant(size, tf.float32)), tf.int32), 1)
        return tf.concat([(shape - part) // 2, part], axis=0)

    @fixed
    @moves_pixels
    @as_written
    def apply(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        del seeds  # nothing random here
        check_encoded("decode_centre_crop", images)

        def one(data: tf.Tensor) -> tf.Tensor:
            return tf.image.resize(pixels.decode_part(data, window), size)

        return _decoded("decode_centre_crop", one, images, size)

    return apply


def _checked(place: str, size: tuple[int, int], area: Sequence[float], ratio: Sequence[float]) -> tuple[int, int]:
    """Checks the arguments of a crop, and returns the size."""
    check_range(place, "area", area, above=0, most=1)
    check_range(place, "ratio", ratio, above=0)
    return pixels.check_size(place, "size", size)


def _decoded(place: str, one: Callable[[Any], tf.Tensor], rows: Any, size: tuple[int, int]) -> tf.Tensor:
    """Applies a function from a row to an image of 0..255 to all rows: float32 (B, *size, 3) in 0..1."""
    cure = "Load the data without encoded=True, which names the file; then repair it or remove it."
    spec = tf.TensorSpec((*size, 3), tf.float32)
    return pixels.map_images(one, rows, spec, where=f"{place}: an image", cure=cure) / 255


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


def _boxes(numbers: tf.Tensor, images: tf.Tensor, area: tuple[float, float], proportions: draws.Table) -> tf.Tensor:
    """Returns random boxes for `tf.image.crop_and_resize`, float32 (B, 4)."""
    height, width = tf.unstack(tf.cast(tf.shape(images)[1:3], tf.float32))
    share = area[0] + numbers[0] * (area[1] - area[0])
    proportion = draws.pick(proportions, numbers[1]) * height / width
    tall = tf.minimum(tf.sqrt(share / proportion), 1.0)
    wide = tf.minimum(tf.sqrt(share * proportion), 1.0)
    top, left = numbers[2] * (1 - tall), numbers[3] * (1 - wide)
    return tf.stack([top, left, top + tall, left + wide], axis=1)


def random_erasing(
    probability: float = 0.5,
    *,
    area: tuple[float, float] = (0.02, 0.4),
    ratio: tuple[float, float] = (0.3, 1 / 0.3),
    value: float | Sequence[float] = 0.0,
) -> Augmentation:
    """Overwrites a rectangle of random area, proportion and place.

    Zhong et al., "Random Erasing Data Augmentation", 2020 (arXiv:1708.04896). A rectangle that would extend beyond the
    image is cut to the image, where the paper draws again, and the logarithm of its proportion is uniform. After
    `normalise`, 0 is the mean of the data.

    Args:
        probability: of an image to lose a part.
        area: least and greatest share of the image.
        ratio: least and greatest height / width.
        value: what is written, one number or one per channel.

    Returns:
        A function (images float (B, H, W, C), seeds) → images.

    Example:
        ```python
        from tfdist import data
        from tfdist.data import augment

        train = data.digits(global_batch=64).map(augment.on_images(augment.random_erasing(0.25)))
        ```
    """
    check_probability("random_erasing", "probability", probability)
    check_range("random_erasing", "area", area, above=0, most=1)
    check_range("random_erasing", "ratio", ratio, above=0)
    proportions = draws.log_uniform(*ratio)

    @as_written
    def apply(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        check_images("random_erasing", images)
        happens, level, shape, *place = tf.unstack(hashing.uniforms(seeds, 5, stream=draws.ERASING), axis=1)
        lengths = tf.shape(images)[1:3]
        pixels_of_part = (area[0] + level * (area[1] - area[0])) * tf.cast(tf.reduce_prod(lengths), tf.float32)
        proportion = draws.pick(proportions, shape)
        sides = tf.sqrt(tf.stack([pixels_of_part * proportion, pixels_of_part / proportion]))
        sides = tf.cast(tf.minimum(sides, tf.cast(lengths, tf.float32)[:, None]), tf.int32)
        sides = tf.where(happens < probability, sides, 0)
        begin = tf.cast(tf.stack(place) * tf.cast(lengths[:, None] - sides + 1, tf.float32), tf.int32)
        channels = tf.shape(images)[3]
        lines = tf.reshape(images, [-1, lengths[0], lengths[1] * channels])
        line = tf.tile(tf.broadcast_to(tf.cast(value, images.dtype), [channels]), [lengths[1]])
        erased = tf.where(is_inside(begin, begin + sides, lengths, channels), line, lines)
        return tf.ensure_shape(tf.reshape(erased, tf.shape(images)), images.shape)

    return apply
