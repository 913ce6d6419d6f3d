"""TFRecord files: every worker reads all records and decodes only its own."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfdist.data import order, pixels
from tfdist.data.source import Plan, Reader, SeededOrdering, Source, make_source
from tfdist.data.sources import record_files
from tfdist.data.sources.record_files import Part
from tfdist.data.sources.record_rows import RecordRows
from tfdist.internals.access.tracing import as_written, compiled, converted
from tfdist.ops import hashing
from tfdist.ops.refusals import refuse_unless
from tfdist.options import DEFAULT_GLOBAL_BATCH
from tfdist.process.errors import UsageError

_INTERLEAVED_FILES = 16
_SHUFFLE_BUFFER = 10_000


def from_records(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    split: str = "train",
    files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None = None,
    features: Mapping[str, Any] | None = None,
    parse: Callable[[dict[str, Any]], Any] | None = None,
    image_size: tuple[int, int] | None = None,
    encoded: bool = False,
    classes: int | None = None,
    compression: str | None = None,
    rows: int | None = None,
    shuffle_buffer: int | None = None,
    random_access: bool = False,
    global_batch: int = DEFAULT_GLOBAL_BATCH,
    **order: Unpack[SeededOrdering],
) -> Source:
    """Makes a source of TFRecord files.

    Without `features`, records are images as TFDS and the ImageNet scripts write them: "image" or
    "image/encoded", with "label" or "image/class/label" (the latter counts from 1).

    Args:
        data_dir: folder of the files: `data_dir/split/*`, or `data_dir/*split*`.
        split: selects the files, and names them in messages.
        files: paths or a pattern, instead of data_dir.
        features: dict name → `tf.io.FixedLenFeature`, `VarLenFeature`, `RaggedFeature`, ...
        parse: function from one parsed example to a row, such as (x, y); without it, a batch is the
            dict of features.
        image_size: (height, width) of the image layout; (224, 224) if None.
        encoded: return images of that layout as they are stored, string (B,), for `augment.decode_resized_crop`.
        classes: number of classes, where there are any.
        compression: "", "GZIP" or "ZLIB"; None for GZIP where names end in .gz.
        rows: number of records, if known; then they are not counted.
        shuffle_buffer: number of records to draw from; 10,000 if None. Another number gives another order.
        random_access: read rows by their number, of uncompressed, local files: the order is a permutation of all rows,
            each worker reads only its own, and a run resumes at once. For disks on which that is fast.
        global_batch: rows of a step, over all replicas.
        **order: `seed`, `shuffle`, `drop_remainder`, `transform` of `make_source`.

    Returns:
        A `Source`.

    Example:
        ```python
        import tensorflow as tf
        from tfdist import data

        with tf.io.TFRecordWriter("train.tfrecord") as writer:
            for number in range(100):
                x = tf.train.Feature(float_list=tf.train.FloatList(value=[number]))
                writer.write(tf.train.Example(features=tf.train.Features(feature={"x": x})).SerializeToString())

        train = data.from_records(
            files="train.tfrecord",
            features={"x": tf.io.FixedLenFeature((), tf.float32)},
            parse=lambda row: (row["x"], 2 * row["x"]),
            global_batch=32,
        )
        ```
    """
    name = f"records/{split}"
    decode = _decoder(name, features, parse, image_size, encoded)
    if data_dir is not None and files is None:
        paths = record_files.find_files(data_dir, split)
    elif files is not None and data_dir is None:
        paths = record_files.expand(files)
    else:
        raise UsageError(f"{name}: data_dir is {data_dir!r} and files is {files!r}. Give one of them.")
    compression = record_files.compression_of(paths, compression)
    if rows is None and not random_access:
        rows = sum(record_files.count_records(path, compression) for path in paths)
    reader = make_reader(
        name,
        [Part(path) for path in paths],
        rows,
        decode,
        compression=compression,
        shuffle_buffer=shuffle_buffer,
        random_access=random_access,
    )
    options: SeededOrdering = {"shuffle": split == "train", **order}
    return make_source(name, reader, global_batch=global_batch, classes=classes, **options)


def _decoder(
    name: str,
    features: Mapping[str, Any] | None,
    parse: Callable[[dict[str, Any]], Any] | None,
    image_size: tuple[int, int] | None,
    encoded: bool,
) -> Callable[[tf.Tensor], Any]:
    """Returns the function from serialized records (B,) to a batch."""
    if encoded and (features is not None or image_size is not None):
        raise UsageError(f"{name}: encoded is for images without features and without image_size. Leave these out.")
    if encoded:
        return lambda records: parse_images(name, records)
    if features is None:
        if parse is not None:
            raise UsageError(f"{name}: parse needs features, the specification of its argument. Give features.")
        size = pixels.check_size(name, "image_size", image_size or (224, 224))
        return lambda records: decode_images(name, records, size)
    if image_size is not None:
        raise UsageError(f"{name}: image_size is for records without features. Resize in parse.")
    if parse is None:
        return lambda records: tf.io.parse_example(records, features)
    own = converted(parse)
    return by_row(name, lambda record: own(tf.io.parse_single_example(record, features)))


def parse_images(name: str, records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Parses records (B,) of the image layout: encoded images string (B,), labels int64 (B,)."""
    text, number = tf.io.FixedLenFeature((), tf.string, ""), tf.io.FixedLenFeature((), tf.int64, -1)
    images, labels = ("image", "image/encoded"), ("label", "image/class/label")
    example = tf.io.parse_example(records, {key: text for key in images} | {key: number for key in labels})
    # The key that a record lacks is empty, or -1. Strings are joined only where both keys occur, because that copies
    # every image.
    first, second = (example[key] for key in images)
    data = tf.case(
        [(_none(second), lambda: first), (_none(first), lambda: second)],
        default=lambda: tf.strings.join([first, second]),
    )
    label = tf.reduce_max([example[key] for key in labels], axis=0)
    message = f"{name}: a record lacks {' or '.join(images)}, or {' or '.join(labels)}. Give features."
    complete = tf.logical_and(tf.strings.length(data) > 0, label >= 0)
    with tf.control_dependencies([refuse_unless(tf.reduce_all(complete), message)]):
        return tf.identity(data), tf.identity(label)


def _none(strings: tf.Tensor) -> tf.Tensor:
    return tf.reduce_all(tf.strings.length(strings) == 0)


def decode_images(name: str, records: tf.Tensor, size: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes records (B,) of the image layout: images float32 (B, *size, 3) in 0..1, labels int64 (B,)."""
    data, labels = parse_images(name, records)
    return pixels.decode(data, size, where=f"{name}: a record"), labels


def by_row(name: str, function: Callable[[tf.Tensor], Any]) -> Callable[[tf.Tensor], Any]:
    """Makes a function of a batch from a function of a row, whose results must all have the same shape."""

    def decode(items: tf.Tensor) -> Any:
        traced = compiled(function).get_concrete_function(tf.TensorSpec((), items.dtype))
        spec = tf.nest.map_structure(lambda value: tf.TensorSpec(value.shape, value.dtype), traced.structured_outputs)
        for leaf in tf.nest.flatten(spec):
            if not leaf.shape.is_fully_defined():
                raise UsageError(
                    f"{name}: a row has a tensor of shape {leaf.shape}, but all rows of a batch need "
                    "the same shape. Resize or pad it (parse, image_size)."
                )
        return tf.map_fn(function, items, fn_output_signature=spec)

    return decode


def make_reader(
    name: str,
    parts: Sequence[Part],
    rows: int | None,
    decode: Callable[[tf.Tensor], Any],
    *,
    compression: str = "",
    shuffle_buffer: int | None,
    random_access: bool,
) -> Reader:
    """Returns the reader of TFRecord files that the options ask for; only random access can do without `rows`."""
    if rows is not None and not random_access:
        buffer = _SHUFFLE_BUFFER if shuffle_buffer is None else shuffle_buffer
        return RecordReader(name, parts, rows, decode, compression=compression, shuffle_buffer=buffer)
    if shuffle_buffer is not None:
        raise UsageError(f"{name}: with random_access, shuffle_buffer has no effect. Leave one of them out.")
    if compression:
        raise UsageError(f"{name}: random_access is for uncompressed files, but these are {compression}. Leave it out.")
    return RecordRows(name, parts, decode, rows)


class RecordReader:
    """Serialized records, read as a stream."""

    def __init__(
        self,
        name: str,
        parts: Sequence[Part],
        rows: int,
        decode: Callable[[tf.Tensor], Any],
        *,
        compression: str = "",
        shuffle_buffer: int = _SHUFFLE_BUFFER,
    ) -> None:
        if shuffle_buffer < 1:
            raise UsageError(f"{name}: shuffle_buffer is {shuffle_buffer}. Use 1 or more.")
        self.rows = rows
        self.files = tuple(part.path for part in parts)
        self.decode = decode
        self._name, self._parts = name, parts
        self._compression, self._buffer = compression, shuffle_buffer

    def global_batches(self, epoch: tf.Tensor | int, step: tf.Tensor | int, plan: Plan) -> tf.data.Dataset:
        """Returns serialized records, string (G,); those before `step` are read and skipped."""
        records = self._records(epoch, plan)
        if plan.shuffle:
            seed = tf.cast(hashing.mix(plan.seed, epoch) % (2**31 - 1), tf.int64)
            # Dataset.shuffle mixes the graph's seed into its own; it is fixed, because the order must depend on
            # (seed, epoch) alone.
            tf.compat.v1.get_default_graph().seed = 1
            records = records.shuffle(self._buffer, seed=seed, reshuffle_each_iteration=False)
        size = plan.global_batch
        return self._complete(records).skip(step * size).batch(size)

    def _records(self, epoch: tf.Tensor | int, plan: Plan) -> tf.data.Dataset:
        def read(path: tf.Tensor, skip: tf.Tensor, take: tf.Tensor) -> tf.data.Dataset:
            return tf.data.TFRecordDataset(path, self._compression).skip(skip).take(take)

        if not plan.shuffle:
            return self._dataset(np.arange(len(self._parts))).flat_map(as_written(read))

        def permute(epoch: int) -> npt.NDArray[np.int64]:
            return order.permutation(plan.seed, epoch, len(self._parts))

        # A fixed number of files at a time, never AUTOTUNE, because that number determines the order.
        return self._dataset(tf.numpy_function(permute, [epoch], tf.int64, stateful=False)).interleave(
            as_written(read),
            cycle_length=_INTERLEAVED_FILES,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )

    def _dataset(self, numbers: tf.Tensor | npt.NDArray[np.int64]) -> tf.data.Dataset:
        columns = [tf.gather(tf.constant(column), numbers) for column in zip(*self._parts, strict=True)]
        path, skip, take = columns
        return tf.data.Dataset.from_tensor_slices((path, tf.cast(skip, tf.int64), tf.cast(take, tf.int64)))

    def _complete(self, records: tf.data.Dataset) -> tf.data.Dataset:
        """Returns a data set of exactly `rows` records; if there are fewer, it raises an error after the last one."""
        message = (
            f"{self._name}: an epoch ended before its {self.rows} rows: the {len(self.files)} "
            "files hold fewer. Leave out rows= to have them counted, or complete the files."
        )

        def fail(record: tf.Tensor) -> tf.Tensor:
            with tf.control_dependencies([refuse_unless(tf.constant(False), message)]):
                return tf.identity(record)

        return records.concatenate(tf.data.Dataset.from_tensors("").map(as_written(fail))).take(self.rows)
