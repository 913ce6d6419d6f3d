"""Applies augmentations of images to a batch of images, labels and weights."""

from collections.abc import Callable
from typing import Any, TypeVar

import tensorflow as tf

from tfdist.data.transforms import fixed, is_fixed, rows_before
from tfdist.internals.access.tracing import as_written, converted
from tfdist.process.errors import UsageError

_Function = TypeVar("_Function", bound=Callable[..., tf.Tensor])
# (images (B, ...), seeds int64 (B, 2)) → images.
Augmentation = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def moves_pixels(function: _Function) -> _Function:
    """Marks an augmentation after which a mask no longer fits the image; a decorator."""
    function.moves_pixels = True  # type: ignore[attr-defined]
    return function


def on_images(*functions: Augmentation) -> Callable[[Any, tf.Tensor], Any]:
    """Makes a transform for `Source.map` that applies the functions in turn to the batch's first part.

    Raises:
        ValueError: there is no function, or one mixes rows, and so their labels too; when it is applied, the labels are
            masks and a function moves the parts of an image.
    """
    if not functions or not all(map(callable, functions)):
        raise UsageError(f"on_images: the functions are {functions!r}. Give functions (images, seeds) → images.")
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
        _check_masks(functions, images, rest)
        for function in own:
            images = function(images, seeds)
        return (images, *rest) if isinstance(batch, tuple) else images

    return fixed(transform) if all(map(is_fixed, functions)) else transform


def _check_masks(functions: tuple[Augmentation, ...], images: tf.Tensor, rest: list[Any]) -> None:
    moving = [function for function in functions if getattr(function, "moves_pixels", False)]
    if not moving or not rest or not tf.is_tensor(rest[0]) or rest[0].shape.rank not in (3, 4):
        return
    if images.dtype == tf.string or images.shape[1:3] == rest[0].shape[1:3]:
        name = moving[0].__qualname__.partition(".")[0]
        raise UsageError(
            f"on_images: {name} moves the parts of an image, but the labels are {rest[0].dtype.name} {rest[0].shape}, "
            "which would stay. Use a transform that gives both the same seeds: lambda batch, seeds: "
            f"({name}(batch[0], seeds), {name}(batch[1], seeds)), where {name} is what augment.{name}(…) returned."
        )
