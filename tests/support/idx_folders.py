"""IDX files, written with `struct` by the description of the format."""

import gzip
import struct

import numpy as np

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(array):
    """Returns an IDX file of an array."""
    code = CODES[array.dtype.str[1:]]
    header = struct.pack(f">4B{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def pictures(rows, size=(4, 6)):
    """Returns the images that `write_pair` writes: uint8 (rows, *size)."""
    return np.random.default_rng(rows).integers(0, 256, (rows, *size), np.uint8)


def write_pair(folder, split, *, rows, size=(4, 6), part="", zipped=True):
    """Writes the images and labels of a split into a folder, which it returns; row i has the label i % 10."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.arange(rows, dtype=np.uint8) % 10
    for kind, array in (("images", pictures(rows, size)), ("labels", labels)):
        name = f"{part}{split}-{kind}-idx{array.ndim}-ubyte"
        content = idx_bytes(array)
        (folder / (name + ".gz" * zipped)).write_bytes(gzip.compress(content) if zipped else content)
    return folder
