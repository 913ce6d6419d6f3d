"""IDX files, the format of MNIST: finding and reading them. Loads no TensorFlow.

Source of the format: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits",
http://yann.lecun.com/exdb/mnist/: two zero bytes, the type, the number of dimensions, the size of each dimension in
four bytes, and the values; numbers are big-endian.
"""

import gzip
import math
import os
import re
import string
import zlib
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tfdist.process.errors import MissingFileError, UsageError

# Where packages of Debian put data sets: one folder each, named with hyphens.
SYSTEM = "/usr/share/datasets"
PACKAGES = {"fashion_mnist": "dataset-fashion-mnist"}

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
# train-images-idx3-ubyte.gz, t10k-labels.idx1-ubyte, emnist-letters-test-images-idx3-ubyte
_NAME = re.compile(r"((?P<part>.+)-)?(?P<split>train|t10k|test)-(?P<kind>images|labels)[-.]idx\d-\w+(\.gz)?")
_SPLIT = re.compile(r"(?P<name>train|test)(\[(?P<first>-?\d+%?)?:(?P<last>-?\d+%?)?\])?")

_DIGITS, _UPPER = tuple(string.digits), tuple(string.ascii_uppercase)
# The data sets that are published as IDX files, under the names of TFDS. Which letters have one class for both cases,
# and that letters count from 1: G. Cohen et al., "EMNIST: an extension of MNIST to handwritten letters", 2017, sec. II.
CLASS_NAMES = {
    "mnist": _DIGITS,
    "fashion_mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    "emnist/byclass": (*_DIGITS, *_UPPER, *string.ascii_lowercase),
    "emnist/bymerge": (*_DIGITS, *_UPPER, *"abdefghnqrt"),
    "emnist/balanced": (*_DIGITS, *_UPPER, *"abdefghnqrt"),
    "emnist/letters": ("none", *_UPPER),
    "emnist/digits": _DIGITS,
    "emnist/mnist": _DIGITS,
}


class Pair(NamedTuple):
    """The paths of a split's images and of their labels."""

    images: str
    labels: str


def locate(name: str, data_dir: str | os.PathLike[str] | None = None) -> tuple[str, str] | None:
    """Looks for the IDX files of a data set that is published as such.

    Args:
        name: a name in `CLASS_NAMES`; others are not found.
        data_dir: the folder of the files or of a sub-folder named as the data set, with hyphens; None for `SYSTEM`.

    Returns:
        (the folder, the part of its files), or None.
    """
    if name not in CLASS_NAMES:
        return None
    base = os.path.expanduser(data_dir or SYSTEM)
    part = name.replace("/", "-") if "/" in name else ""
    folders = (base, os.path.join(base, name.replace("_", "-")))
    # In the common folder of all packages, files of no sub-folder belong to no data set.
    return next(((folder, part) for folder in folders[data_dir is None :] if part in parts_in(folder)), None)


def parts_in(folder: str | os.PathLike[str]) -> dict[str, dict[tuple[str, str], str]]:
    """Returns the IDX files of a folder: part → (split, kind) → path, where "" is the part of files without one."""
    found: dict[str, dict[tuple[str, str], str]] = {}
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    for match in filter(None, map(_NAME.fullmatch, names)):
        split = "train" if match["split"] == "train" else "test"
        # The name without .gz comes first.
        found.setdefault(match["part"] or "", {}).setdefault((split, match["kind"]), os.path.join(folder, match[0]))
    return found


def check_folder(folder: str | os.PathLike[str]) -> dict[str, dict[tuple[str, str], str]]:
    """Returns what `parts_in` returns; raises FileNotFoundError where there is nothing."""
    if not os.path.isdir(folder):
        raise MissingFileError(f"idx: data_dir is {str(folder)!r}: no such folder.")
    parts = parts_in(folder)
    if not parts:
        raise MissingFileError(
            f"idx: {str(folder)!r} has no IDX files. Give the folder of files such as train-images-idx3-ubyte.gz."
        )
    return parts


def find_pair(folder: str | os.PathLike[str], split: str, part: str | None = None) -> tuple[str, Pair]:
    """Returns the part, and the paths of a split's images and labels.

    Args:
        folder: the folder of the files.
        split: "train" or "test".
        part: what comes before the split in the files' names, or its end; None for the only part there is.

    Raises:
        FileNotFoundError: there are no such files.
        ValueError: there are several parts.
    """
    parts = check_folder(folder)
    fitting = [name for name in parts if part in (None, name) or (part and name.endswith(f"-{part}"))]
    if len(fitting) > 1:
        raise UsageError(f"idx: {str(folder)!r} has the parts {sorted(fitting)}. Give one of them as part.")
    if not fitting:
        raise MissingFileError(f"idx: part is {part!r}, but {str(folder)!r} has {sorted(parts)}. Give one of these.")
    files = parts[fitting[0]]
    kinds = ("images", "labels")
    if missing := [f"{split}-{kind}" for kind in kinds if (split, kind) not in files]:
        others = sorted(os.path.basename(path) for path in files.values())
        raise MissingFileError(
            f"idx: {str(folder)!r} has no file {' or '.join(missing)}-idx…, only {', '.join(others)}. "
            "Complete it, or use another split."
        )
    return fitting[0], Pair(files[split, "images"], files[split, "labels"])


def read_pair(pair: Pair) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Reads the images and labels of a split: arrays (rows, ...) of the types in the files.

    Raises:
        ValueError: a file is damaged, or their numbers of rows differ.
    """
    images, labels = read(pair.images), read(pair.labels)
    if len(images) != len(labels):
        raise UsageError(
            f"{pair.images}: it has {len(images)} images, but {pair.labels} has {len(labels)} labels. "
            "Use two files that belong together."
        )
    return images, labels


def read(path: str) -> npt.NDArray[Any]:
    """Reads an IDX file, plain or GZIP whatever its name is: an array of its shape, big-endian.

    Raises:
        ValueError: the file is damaged or not an IDX file; the message names it.
    """
    with open(path, "rb") as file:
        data = file.read()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UsageError(f"{path}: broken GZIP file ({error}). Download it again.") from error
    start = data[:4]
    if len(start) < 4 or start[:2] != b"\0\0" or not start[3]:
        raise UsageError(
            f"{path}: not an IDX file, because it begins with {start!r} instead of two zeros, a type and a number of "
            "dimensions. Download it again."
        )
    if start[2] not in _TYPES:
        known = ", ".join(f"0x{number:02x}" for number in _TYPES)
        raise UsageError(f"{path}: its type is 0x{start[2]:02x}, but IDX has {known}. Download it again.")
    return _values(path, data, np.dtype(_TYPES[start[2]]))


def _values(path: str, data: bytes, kind: np.dtype[Any]) -> npt.NDArray[Any]:
    begin = 4 + 4 * data[3]
    if len(data) < begin:
        raise UsageError(f"{path}: cut off within its header of {begin} bytes. Download it again.")
    shape = tuple(np.frombuffer(data[4:begin], ">u4").tolist())
    size = math.prod(shape) * kind.itemsize
    if len(data) - begin != size:
        raise UsageError(
            f"{path}: its header says {' x '.join(map(str, shape))} values, which are {size} bytes, but "
            f"{len(data) - begin} bytes follow. Download it again."
        )
    return np.frombuffer(data, kind, offset=begin).reshape(shape)


def parse_split(split: str) -> str:
    """Returns "train" or "test", of which `split` is all or a part.

    Raises:
        ValueError: it is neither, or its part is not written as in "train[:80%]".
    """
    match = _SPLIT.fullmatch(split)
    if not match:
        raise UsageError(f"idx: split is {split!r}. Use 'train' or 'test', or a part of it as in 'train[:80%]'.")
    return match["name"]


def rows_of(split: str, rows: int) -> slice:
    """Returns which of a number of rows a split such as "train[:80%]" or "test[1000:]" takes, as TFDS does.

    Raises:
        ValueError: there are fewer rows.
    """
    match = _SPLIT.fullmatch(split)
    first, last = (match["first"], match["last"]) if match else (None, None)
    places = [_place(first, rows) if first else 0, _place(last, rows) if last else rows]
    if not all(0 <= place <= rows for place in places):
        raise UsageError(f"idx: split is {split!r}, but there are {rows} rows. Use places in 0..{rows}.")
    return slice(*places)


def _place(text: str, rows: int) -> int:
    # TFDS rounds in this way too.
    place = round(int(text[:-1]) * rows / 100) if text.endswith("%") else int(text)
    return place + rows if place < 0 else place
