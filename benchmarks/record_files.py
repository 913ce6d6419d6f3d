"""Measures how fast serialized records come out of record files, read as a stream and by the number of a row.

Three ways read the same records in 8 files: TFRecord files as a stream with a shuffle buffer, as `data.load("records")`
does; TFRecord files by row number, after all headers were walked once for the records' places; and ArrayRecord files by
row number. Records have the size of CIFAR-10's and of JPEGs of 224 x 224. Nothing is decoded, because that is the same
for all. "Resume" is the time to the first batch from the middle of an epoch. Bytes are those that one of two workers
reads in half an epoch, in units of the bytes of its own rows. Files are in the page cache.

Usage: python benchmarks/record_files.py [--rounds=N] [--out_dir=FOLDER]
"""

import os
import pathlib
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter

from tfdist.bench import script
from tfdist.data.delivery.delivery import Places
from tfdist.data.source import make_source
from tfdist.data.sources.arrays import RowReader
from tfdist.data.sources.record_files import Part
from tfdist.data.sources.record_rows import RecordRows
from tfdist.data.sources.records import RecordReader

# Name → (rows, bytes of a record, rows of a global batch).
SETS = {"CIFAR-10": (20_000, 2_500, 128), "JPEG 224": (2_000, 25_000, 64)}
FILES = 8
RATE, RESUME, BYTES = "rows/s", "ms to resume", "bytes read per own byte"


def main(arguments):
    """Writes the files, measures, prints and writes."""
    out_dir = pathlib.Path(__file__).parent / "results" / "record_files"
    given = script.read_flags(arguments, text=__doc__, out_dir=out_dir, default_rounds=7)
    with tempfile.TemporaryDirectory() as folder:
        measures = {}
        for name, (rows, size, batch) in SETS.items():
            streams, arrays = write(pathlib.Path(folder), name, rows, size)
            sources = {
                "TFRecord, a stream": RecordReader(name, list(map(Part, streams)), rows, lambda records: records),
                "TFRecord, by number": RecordRows(name, list(map(Part, streams)), lambda records: records),
                "ArrayRecord, by number": ArrayRecords(arrays),
            }
            for way, reader in sources.items():
                source = make_source(way, reader, global_batch=batch)
                measures[f"{name}: {way}"] = lambda source=source, size=size: measure(source, size)
        script.run(measures, given, measured={"sets": SETS, "files": FILES, "shuffle_buffer": 10_000})


def write(folder, name, rows, size):
    """Writes the same records as TFRecord and as ArrayRecord files; returns both lists of paths."""
    random = np.random.default_rng(0)
    paths = [[str(folder / f"{name}-{file}.{kind}") for file in range(FILES)] for kind in ("tfrecord", "array_record")]
    for stream, array in zip(*paths, strict=True):
        with tf.io.TFRecordWriter(stream) as first:
            second = ArrayRecordWriter(array, "group_size:1")
            for _ in range(rows // FILES):
                record = random.bytes(size)
                first.write(record)
                second.write(record)
            second.close()
    return paths


class ArrayRecords(RowReader):
    """ArrayRecord files by row number."""

    def __init__(self, paths):
        source = ArrayRecordDataSource(paths)
        self.rows = len(source)
        self._read = lambda items: np.array(source.__getitems__(items.tolist()), object)

    def decode(self, items):
        """Reads the records of some rows."""
        return tf.ensure_shape(tf.numpy_function(self._read, [items], tf.string, stateful=False), [None])


def measure(source, size):
    """Reads an epoch on one worker, begins in its middle, and reads half an epoch as one of two workers."""
    steps = source.cardinality
    begin = time.perf_counter()
    read(source, Places(1, 0, 1), 0, steps)
    seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    read(source, Places(1, 0, 1), steps // 2, 1)
    resume = time.perf_counter() - begin
    before = bytes_read()
    rows = read(source, Places(2, 0, 1), 0, steps // 2)
    return {RATE: source.rows / seconds, RESUME: 1e3 * resume, BYTES: (bytes_read() - before) / (rows * size)}


def read(source, places, step, steps):
    """Reads some steps of a worker; returns the number of its rows."""
    batches = source.local_batches(places, epoch=0, step=step).take(steps)
    return sum(int(share.replica_rows) for (share,) in batches)


def bytes_read():
    """Returns the bytes that this process has read from files so far."""
    lines = pathlib.Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


if __name__ == "__main__":
    main(sys.argv[1:])
