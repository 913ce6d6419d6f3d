"""TFRecord files: finding them and counting their records. Only remote folders need TensorFlow."""

import contextlib
import glob
import gzip
import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, NamedTuple

from tfdist.process.errors import MissingFileError, UsageError

# train-00000-of-01024, mnist-train.tfrecord-00000-of-00001, part7.tfrecords.gz
_LOOKS_LIKE_RECORDS = re.compile(r"\.tfrecords?\b|-\d{5,}-of-\d{5,}")
# A record: length (8 bytes), its checksum (4), the data, their checksum (4).
_HEADER = struct.Struct("<QI")
_MAX_BYTES = 2**40


class Part(NamedTuple):
    """The records of a file: `take` of them (-1 for all) after the first `skip`."""

    path: str
    skip: int = 0
    take: int = -1


def find_files(data_dir: str | os.PathLike[str], split: str) -> list[str]:
    """Returns a split's files, sorted: `data_dir/split/*`, or the files in `data_dir` whose names contain the split."""
    folder = os.path.join(data_dir, split)
    pattern = os.path.join(folder, "*") if _glob(folder) else os.path.join(data_dir, f"*{split}*")
    paths = [path for path in _glob(pattern) if _LOOKS_LIKE_RECORDS.search(os.path.basename(path))]
    if not paths:
        raise MissingFileError(
            f"records: no TFRecord files of split {split!r} in {str(data_dir)!r}. Give another "
            "data_dir or split, or files='.../*.tfrecord'."
        )
    return paths


def expand(files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[str]:
    """Returns the sorted paths of a pattern, or the given paths in their order; all of them exist."""
    patterns = [files] if isinstance(files, (str, os.PathLike)) else list(files)
    found = [_glob(os.fspath(pattern)) for pattern in patterns]
    if not all(found) or not found:
        raise MissingFileError(f"records: files is {files!r}: no such file. Give paths or a pattern.")
    return [path for paths in found for path in paths]


def compression_of(paths: Sequence[str], compression: str | None = None) -> str:
    """Returns "GZIP", "ZLIB" or "": the given one, or GZIP if every name ends in .gz."""
    if compression is not None:
        if compression not in ("", "GZIP", "ZLIB"):
            raise UsageError(f"records: compression is {compression!r}. Use '', 'GZIP' or 'ZLIB'.")
        return compression
    zipped = [path for path in paths if path.endswith(".gz")]
    if zipped and len(zipped) < len(paths):
        raise UsageError(
            f"records: {len(zipped)} of {len(paths)} files end in .gz. Give compression, or files of one kind."
        )
    return "GZIP" if zipped else ""


def count_records(path: str, compression: str = "") -> int:
    """Counts a file's records, see `find_records`."""
    return len(find_records(path, compression))


def find_records(path: str, compression: str = "") -> list[tuple[int, int]]:
    """Finds a file's records by walking from header to header.

    Returns:
        For each record, the place of the first byte of its data, and the number of its bytes.

    Raises:
        ValueError: the file is cut off or not a TFRecord file; the message names the file and the
            offset of the broken record.
    """
    if compression == "ZLIB":
        raise UsageError("records: ZLIB files are not counted. Give rows=, the number of records.")
    try:
        with _open(path, compression) as file:
            return _walk(file, path)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UsageError(f"{path}: broken GZIP file ({error}). Write it again.") from error


def read_record(path: str, place: int, size: int) -> bytes:
    """Reads the data of one record of an uncompressed, local file.

    Raises:
        ValueError: the record is no longer there.
    """
    file = os.open(path, os.O_RDONLY)
    try:
        data = os.pread(file, _HEADER.size + size, place - _HEADER.size)
    finally:
        os.close(file)
    if len(data) < _HEADER.size + size or _HEADER.unpack_from(data)[0] != size:
        raise UsageError(f"{path}: it has changed since the start. Start again.")
    return data[_HEADER.size :]


def _walk(file: IO[bytes] | gzip.GzipFile, path: str) -> list[tuple[int, int]]:
    found, offset = [], 0
    while header := file.read(_HEADER.size):
        length = _HEADER.unpack(header)[0] if len(header) == _HEADER.size else _MAX_BYTES
        end = offset + _HEADER.size + length + 4
        if length < _MAX_BYTES:
            file.seek(end - 1)
        if length >= _MAX_BYTES or not file.read(1):
            raise UsageError(
                f"{path}: the record at byte {offset} is cut off, or this is not a TFRecord file. Write it again."
            )
        found.append((offset + _HEADER.size, length))
        offset = end
    return found


def _glob(pattern: str) -> list[str]:
    if "://" not in pattern:
        # An existing path may contain brackets.
        return [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern))
    import tensorflow as tf

    return sorted(tf.io.gfile.glob(pattern))


@contextlib.contextmanager
def _open(path: str, compression: str) -> Iterator[IO[bytes] | gzip.GzipFile]:
    with contextlib.ExitStack() as stack:
        if "://" in path:
            import tensorflow as tf

            file = stack.enter_context(tf.io.gfile.GFile(path, "rb"))
        else:
            file = stack.enter_context(open(path, "rb"))
        yield stack.enter_context(gzip.GzipFile(fileobj=file)) if compression else file
