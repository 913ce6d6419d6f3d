"""Images of MNIST and of the data sets that followed it, from IDX files."""

import os
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from tfdist.data import pixels
from tfdist.data.source import SeededOrdering, Source, make_source
from tfdist.data.sources import idx_files
from tfdist.data.sources.arrays import MemoryReader
from tfdist.options import DEFAULT_GLOBAL_BATCH
from tfdist.process.errors import UsageError

# Rows up to this size are kept as floats, from which a step picks without a pipeline.
_MOST_BYTES_OF_FLOATS = 2**30


def from_idx(
    data_dir: str | os.PathLike[str],
    *,
    split: str = "train",
    part: str | None = None,
    transpose: bool | None = None,
    name: str = "idx",
    global_batch: int = DEFAULT_GLOBAL_BATCH,
    **order: Unpack[SeededOrdering],
) -> Source:
    """Makes a source of IDX files: MNIST, Fashion-MNIST, KMNIST, EMNIST and others of their format.

    A split is the files `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, or those of `t10k` or `test`, plain or
    GZIP, also with a dot before "idx". All types of IDX are read.

    The labels are those of the files; those of EMNIST's letters count from 1, so class 0 has no rows.

    Args:
        data_dir: the folder of the files.
        split: "train", "test", or a part of one, as in "train[:80%]".
        part: what comes before the split in the files' names, such as "emnist-letters" or "letters"; None where there
            is only one.
        transpose: exchange the height and the width; None: for EMNIST alone, whose files have them exchanged. (TFDS
            leaves EMNIST as it is.)
        name: its name in messages; "mnist", "fashion_mnist" or "kmnist" names the classes too.
        global_batch: rows of a step, over all replicas.
        **order: `seed`, `shuffle`, `drop_remainder`, `transform` of `make_source`.

    Returns:
        A `Source` of (images, labels): float32 (B, H, W, 1), in 0..1 if the files have unsigned bytes, otherwise with
        the values of the files; int32 (B,).

    Raises:
        FileNotFoundError: no such folder or files.
        ValueError: a file is damaged, the numbers of images and labels differ, a label is no class of `name`, or there
            are several parts.

    Example:
        ```python
        import os
        import struct
        from tfdist import data

        os.makedirs("mine")
        with open("mine/train-images-idx3-ubyte", "wb") as file:
            file.write(struct.pack(">4B3I", 0, 0, 8, 3, 10, 28, 28) + bytes(10 * 28 * 28))
        with open("mine/train-labels-idx1-ubyte", "wb") as file:
            file.write(struct.pack(">4BI", 0, 0, 8, 1, 10) + bytes(range(10)))
        train = data.from_idx("mine", split="train", global_batch=5)
        images, labels = train.first_rows()
        ```
    """
    part, pair = idx_files.find_pair(data_dir, idx_files.parse_split(split), part)
    images, labels = idx_files.read_pair(pair)
    class_names = idx_files.CLASS_NAMES.get(part.replace("-", "/", 1) or name)
    classes = len(class_names) if class_names else _count_classes(data_dir, part, labels)
    if class_names and labels.max(initial=0) >= len(class_names):
        raise UsageError(
            f"{pair.labels}: it has the label {labels.max()}, but {part or name} has {len(class_names)} classes. "
            "Check data_dir and the name."
        )
    if transpose or (transpose is None and part.startswith("emnist-")):
        images = images.swapaxes(1, 2)
    rows = idx_files.rows_of(split, len(images))
    reader = _make_reader(images[rows], labels[rows])
    options: SeededOrdering = {"shuffle": split.startswith("train"), **order}
    full_name = f"{part or name}/{split}"
    return make_source(
        full_name, reader, global_batch=global_batch, classes=classes, class_names=class_names, **options
    )


def _make_reader(images: npt.NDArray[Any], labels: npt.NDArray[Any]) -> MemoryReader:
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if labels.dtype.kind in "iu":
        labels = labels.astype(np.int32)
    if images.dtype != np.uint8:
        floats = images.astype(np.float32)
        return MemoryReader(len(labels), lambda: (floats, labels))
    if 4 * images.size > _MOST_BYTES_OF_FLOATS:
        return MemoryReader(len(labels), lambda: (images, labels), lambda batch: (pixels.to_floats(batch[0]), batch[1]))
    return MemoryReader(len(labels), lambda: (images.astype(np.float32) / np.float32(255), labels))


def _count_classes(data_dir: str | os.PathLike[str], part: str, labels: npt.NDArray[Any]) -> int | None:
    """Returns one more than the largest label of this split and of "train", so that both splits agree."""
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        return None
    of_train = idx_files.parts_in(data_dir)[part].get(("train", "labels"))
    both = np.concatenate([labels, idx_files.read(of_train) if of_train else labels])
    return int(both.max()) + 1 if both.size and both.min() >= 0 else None
