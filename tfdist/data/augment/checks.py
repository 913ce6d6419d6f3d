"""Checks of the numbers that augmentations take."""

from collections.abc import Sequence

import tensorflow as tf

from tfdist.options.checks import is_number
from tfdist.process.errors import UsageError


def check_probability(place: str, name: str, value: object) -> None:
    """Raises ValueError for a number that is not in 0..1."""
    if not is_number(value) or not 0 <= value <= 1:  # type: ignore[operator]
        raise UsageError(f"{place}: {name} is {value!r}. Use a number from 0 to 1.")


def check_at_least(place: str, name: str, value: object, *, above: float | None = None, least: float = 0) -> None:
    """Raises ValueError for a number that is not above a bound, or below the least one."""
    if not is_number(value) or (value <= above if above is not None else value < least):  # type: ignore[operator]
        bound = f"from {least:g}" if above is None else f"above {above:g}"
        raise UsageError(f"{place}: {name} is {value!r}. Use a number {bound}.")


def check_range(place: str, name: str, value: Sequence[float], *, above: float, most: float | None = None) -> None:
    """Raises ValueError for what is not two numbers in order within bounds."""
    numbers = tuple(value) if isinstance(value, Sequence) else ()
    right = len(numbers) == 2 and all(map(is_number, numbers)) and above < numbers[0] <= numbers[1]
    if not right or (most is not None and numbers[1] > most):
        bound = "" if most is None else f" to {most:g}"
        raise UsageError(
            f"{place}: {name} is {value!r}. Use two numbers above {above:g}{bound}, the smaller one first."
        )


def check_images(place: str, images: tf.Tensor, *, floats: bool = True) -> None:
    """Raises ValueError for what are no images (B, H, W, C), or no floats where these are needed."""
    shape, kind = tf.TensorShape(images.shape), tf.as_dtype(images.dtype)
    if shape.rank != 4 or (floats and not kind.is_floating):
        kinds = "floats (B, H, W, C)" if floats else "(B, H, W, C)"
        raise UsageError(f"{place}: the images are {kind.name} {shape}. Use {kinds}.")


def check_encoded(place: str, images: tf.Tensor) -> None:
    """Raises ValueError for images that are decoded already."""
    if images.dtype != tf.string:
        raise UsageError(
            f"{place}: the images are {images.dtype.name} {images.shape}, which are decoded. Load the data with "
            "encoded=True."
        )
