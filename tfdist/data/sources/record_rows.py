"""TFRecord files read by the number of a row: a worker reads its own records, and no others."""

import concurrent.futures
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfdist.data.sources import record_files
from tfdist.data.sources.arrays import RowReader
from tfdist.process.errors import UsageError

# Walking waits for the storage, not for a core.
_FILES_WALKED_AT_ONCE = 16


class RecordRows(RowReader):
    """Serialized records of uncompressed, local TFRecord files, in an order that is one permutation of all rows.

    The headers are walked once for the places of the records: docs/decisions/record_files.md has the figures. The
    checksums of the data are not compared.
    """

    def __init__(
        self,
        name: str,
        parts: Sequence[record_files.Part],
        decode: Callable[[tf.Tensor], Any],
        rows: int | None = None,
    ) -> None:
        """Args:
        name: its name in messages.
        parts: the files, and which of their records.
        decode: function from serialized records (B,) to a batch.
        rows: None, or how many records there must be.
        """
        if remote := [part.path for part in parts if "://" in part.path]:
            raise UsageError(f"{name}: random_access is for local files, but there is {remote[0]}. Leave it out.")
        with concurrent.futures.ThreadPoolExecutor(_FILES_WALKED_AT_ONCE) as pool:
            places = list(pool.map(_places, parts))
        self._paths = [part.path for part in parts]
        # Three numbers a row: its file, where its data begin, and how many bytes they have.
        self._files = np.repeat(np.arange(len(parts), dtype=np.int32), [len(each) for each in places])
        self._places = np.concatenate(places)
        self.rows = len(self._places)
        if rows not in (None, self.rows):
            raise UsageError(f"{name}: its files hold {self.rows} rows instead of {rows}. Complete the files.")
        self._decode = decode

    def decode(self, items: tf.Tensor) -> Any:
        """Reads and decodes the rows with the numbers `items`."""
        records = tf.numpy_function(self._read, [items], tf.string, stateful=False)
        return self._decode(tf.ensure_shape(records, items.shape))

    def _read(self, items: npt.NDArray[np.int64]) -> npt.NDArray[np.object_]:
        found = zip(self._files[items].tolist(), self._places[items].tolist(), strict=True)
        return np.array([record_files.read_record(self._paths[file], *place) for file, place in found], object)


def _places(part: record_files.Part) -> npt.NDArray[np.int64]:
    """Returns where the records of a part of a file are: (rows, 2), the first byte of the data and their number."""
    every = np.array(record_files.find_records(part.path), np.int64).reshape(-1, 2)
    return every[part.skip :][: None if part.take < 0 else part.take]
