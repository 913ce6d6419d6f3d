"""A folder of images with one sub-folder per class."""

import os
from collections.abc import Sequence
from typing import Unpack

import numpy as np
import tensorflow as tf

from tfdist.data import pixels
from tfdist.data.source import SeededOrdering, Source, make_source
from tfdist.data.sources.arrays import MemoryReader
from tfdist.options import DEFAULT_GLOBAL_BATCH
from tfdist.options.checks import is_switch
from tfdist.process.errors import MissingFileError, UsageError
from tfdist.process.log import warn

_EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
_SPLITS = ("train", "validation", "val", "test")


def from_images(
    data_dir: str | os.PathLike[str],
    *,
    split: str = "train",
    image_size: tuple[int, int] | None = None,
    channels: int = 3,
    keep_aspect: bool = False,
    encoded: bool = False,
    global_batch: int = DEFAULT_GLOBAL_BATCH,
    **order: Unpack[SeededOrdering],
) -> Source:
    """Makes a source of the images in `data_dir/split/class/`; for "train" without split folders, in `data_dir/class/`.

    Classes are numbered by their sorted names, those of `data_dir/train` where it exists, so that
    all splits agree. Files whose names do not end like those of PNG, JPEG, BMP or GIF are left out,
    with one log line.

    Args:
        data_dir: the folder.
        split: name of the sub-folder.
        image_size: (height, width) to resize to; (224, 224) if None.
        channels: 3 for RGB, 1 for grey.
        keep_aspect: crop each image to the aspect ratio of image_size; otherwise it is stretched.
        encoded: return images as they are stored, string (B,), for `augment.decode_resized_crop`.
        global_batch: rows of a step, over all replicas.
        **order: `seed`, `shuffle`, `drop_remainder`, `transform` of `make_source`.

    Returns:
        A `Source` of (images float32 (B, H, W, channels) in 0..1, labels int32 (B,)).

    Raises:
        FileNotFoundError: no such folder or split.
        ValueError: no images, a class that "train" lacks, other channels, or an option without effect if `encoded`.

    Example:
        ```python
        import os
        import tensorflow as tf
        from tfdist import data

        for name in ("cats", "dogs"):
            os.makedirs(f"pets/train/{name}")
            tf.io.write_file(f"pets/train/{name}/0.png", tf.io.encode_png(tf.zeros([40, 30, 3], tf.uint8)))
        train = data.from_images("pets", image_size=(32, 32), keep_aspect=True, global_batch=2)
        images, labels = train.first_rows()
        ```
    """
    for option, value in (("keep_aspect", keep_aspect), ("encoded", encoded)):
        if not is_switch(value):
            raise UsageError(f"images: {option} is {value!r}. Use True or False.")
    if channels not in (1, 3):
        raise UsageError(f"images: channels is {channels}. Use 3 for RGB or 1 for grey.")
    if encoded and (image_size is not None or channels != 3 or keep_aspect):
        raise UsageError("images: with encoded, image_size, channels and keep_aspect have no effect. Leave these out.")
    folder = find_split(data_dir, split)
    train = os.path.join(data_dir, "train")
    names = class_names(train if os.path.isdir(train) else folder)
    paths, labels = list_images(folder, names)
    size = None if encoded else pixels.check_size("images", "image_size", image_size or (224, 224))
    reader = ImageReader(paths, labels, size, channels, keep_aspect)
    options: SeededOrdering = {"shuffle": split == "train", **order}
    return make_source(folder, reader, global_batch=global_batch, class_names=names, **options)


def find_split(data_dir: str | os.PathLike[str], split: str) -> str:
    """Returns the folder that holds a split's classes."""
    if not os.path.isdir(data_dir):
        raise MissingFileError(f"images: data_dir is {str(data_dir)!r}: no such folder.")
    found = set(_subfolders(data_dir))
    if split in found:
        return os.path.join(data_dir, split)
    if split == "train" and not found & set(_SPLITS):
        return os.fspath(data_dir)
    raise MissingFileError(
        f"images: {str(data_dir)!r} has no sub-folder {split!r}; it has {sorted(found)[:8]}. "
        "Use one of these as split, or another data_dir."
    )


def class_names(folder: str) -> list[str]:
    """Returns the sorted names of the sub-folders."""
    names = _subfolders(folder)
    if not names:
        raise UsageError(f"images: {folder!r} has no sub-folders. Make one for each class.")
    return names


def list_images(folder: str, names: Sequence[str]) -> tuple[list[str], list[int]]:
    """Returns (paths, labels) of all images below `folder`, in sorted order."""
    extra = sorted(set(_subfolders(folder)) - set(names))
    if extra:
        raise UsageError(
            f"images: {folder!r} has classes that 'train' lacks: {extra[:8]}. Remove them, or add them to 'train'."
        )
    paths: list[str] = []
    labels: list[int] = []
    others = 0
    for label, name in enumerate(names):
        files = _files(os.path.join(folder, name))
        images = [file for file in files if file.lower().endswith(_EXTENSIONS)]
        paths += images
        labels += [label] * len(images)
        others += len(files) - len(images)
    if others:
        warn(f"{folder}: {others} files are left out because they are not {', '.join(_EXTENSIONS)}.")
    if not paths:
        raise UsageError(f"images: {folder!r} holds no images. Use files that end in {', '.join(_EXTENSIONS)}.")
    return paths, labels


def _subfolders(folder: str | os.PathLike[str]) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _files(folder: str) -> list[str]:
    # Hidden files, such as .DS_Store, are not data.
    walk = os.walk(folder, followlinks=True)
    paths = (os.path.join(at, name) for at, _, names in walk for name in names if name[0] != ".")
    return sorted(paths)


class ImageReader(MemoryReader):
    """Image files, decoded by the worker that needs them; paths and labels are in memory.

    Args:
        paths, labels: the paths and labels of all images.
        image_size: (height, width), or None to leave them encoded.
        channels, keep_aspect: see `pixels.decode`.
    """

    def __init__(
        self,
        paths: Sequence[str],
        labels: Sequence[int],
        image_size: tuple[int, int] | None,
        channels: int = 3,
        keep_aspect: bool = False,
    ) -> None:
        arrays = np.array([os.fsencode(path) for path in paths], object), np.array(labels, np.int32)
        super().__init__(len(paths), lambda: arrays, self._load_rows)
        self._size, self._channels, self._keep_aspect = image_size, channels, keep_aspect

    def _load_rows(self, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        paths, labels = batch
        encoded = tf.map_fn(tf.io.read_file, paths)
        if self._size is None:
            return encoded, labels
        images = pixels.decode(encoded, self._size, where=paths, channels=self._channels, keep_aspect=self._keep_aspect)
        return images, labels
