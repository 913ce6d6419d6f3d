"""Augmentation: each row draws from its own seed, so that the result is the same on any number of replicas.

Functions of images alone, for `on_images`, are (images float32 (B, H, W, C), seeds int64 (B, 2)) → images; B may be 0.
The first one may take the encoded images of a source loaded with `encoded=True`: `decode_resized_crop` and
`decode_centre_crop` decode them.
`one_hot`, `mixup` and `cutmix` make transforms of whole batches, for `Source.map`.

Example:
    ```python
    from tfdist import data
    from tfdist.data import augment

    train = data.digits(global_batch=64)
    train = train.map(augment.on_images(augment.pad_crop(1), augment.normalise(0.3, 0.4)))
    train = train.map(augment.one_hot(10)).map(augment.mixup(0.2))
    images, labels = next(iter(train.dataset()))
    ```
"""

from tfdist.data.augment.apply import on_images
from tfdist.data.augment.colours import colour_jitter, normalise
from tfdist.data.augment.crops import (
    decode_centre_crop,
    decode_resized_crop,
    flip,
    pad_crop,
    random_erasing,
    resized_crop,
)
from tfdist.data.augment.mixing import cutmix, mixup, one_hot
from tfdist.data.transforms import WithPrevious, fixed

__all__ = [
    "WithPrevious",
    "colour_jitter",
    "cutmix",
    "decode_centre_crop",
    "decode_resized_crop",
    "fixed",
    "flip",
    "mixup",
    "normalise",
    "on_images",
    "one_hot",
    "pad_crop",
    "random_erasing",
    "resized_crop",
]
