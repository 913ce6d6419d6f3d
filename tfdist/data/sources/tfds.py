"""TFDS data sets: small ones are kept in memory, large ones are streamed from their record files."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import tensorflow as tf

from tfdist.data import pixels
from tfdist.data.source import Reader, SeededOrdering, Source, make_source
from tfdist.data.sources import tfds_catalog
from tfdist.data.sources.arrays import MemoryReader
from tfdist.data.sources.record_files import Part
from tfdist.data.sources.records import by_row, make_reader
from tfdist.internals.access.tracing import as_written
from tfdist.options import DEFAULT_GLOBAL_BATCH
from tfdist.process.errors import UsageError

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

_READ_ROWS = 1024


def from_tfds(
    name: str,
    *,
    split: str = "train",
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    keys: Any = None,
    masks: Sequence[str] = (),
    image_size: tuple[int, int] | None = None,
    encoded: bool = False,
    in_memory_bytes: int = 2**30,
    shuffle_buffer: int | None = None,
    random_access: bool = False,
    global_batch: int = DEFAULT_GLOBAL_BATCH,
    **order: Unpack[SeededOrdering],
) -> Source:
    """Makes a source of a TFDS data set.

    Args:
        name, data_dir, download: see `tfds_catalog.find_builder`.
        split: "train", "train[:80%]", "train+test", ...
        keys: nested names of the features that make a row, such as ("image", "label"); None for the
            data set's own pair.
        masks: names of features that are images of class numbers, besides those that TFDS marks: those of type
            `LabeledImage`, or with `use_colormap`.
        image_size: (height, width) to resize images to; required where their sizes differ and `encoded` is False.
        encoded: return images as they are stored, string (B,), for `augment.decode_resized_crop`.
        in_memory_bytes: a split up to this size is kept in memory; a larger one is streamed.
        shuffle_buffer, random_access: of a streamed split, see `from_records`.
        global_batch: rows of a step, over all replicas.
        **order: `seed`, `shuffle`, `drop_remainder`, `transform` of `make_source`.

    Returns:
        A `Source` whose batches are nested as `keys`; images are float32 in 0..1, unless `encoded`. Masks are int32
        with the stored numbers; where they are resized, each pixel is the nearest one.

    Example:
        ```python
        from tfdist import data

        try:
            train = data.from_tfds("mnist", split="train[:90%]", global_batch=256)
        except FileNotFoundError as error:
            print(error)  # … Give data_dir …, or download=True.
        ```
    """
    builder = tfds_catalog.find_builder(name, data_dir=data_dir, download=download)
    info = tfds_catalog.find_split(builder, split)
    rows = TfdsRows(builder, keys, image_size, encoded=encoded, masks=masks)
    full_name = f"{builder.name}/{split}"
    reader: Reader
    if rows.bytes_of(info) <= in_memory_bytes:
        reader = MemoryReader(info.num_examples, lambda: rows.read(split), rows.finish)
    else:
        reader = _stream(full_name, info, rows, shuffle_buffer, random_access)
    options: SeededOrdering = {"shuffle": split.startswith("train"), **order}
    return make_source(full_name, reader, global_batch=global_batch, class_names=rows.class_names, **options)


def _stream(
    name: str, info: "tfds.core.SplitInfo", rows: "TfdsRows", shuffle_buffer: int | None, random_access: bool
) -> Reader:
    form = rows.builder.info.file_format
    if form is not None and form.value != "tfrecord":
        raise UsageError(
            f"{name}: its files are {form.value}, and only TFRecord files are streamed. Raise "
            f"in_memory_bytes above {rows.bytes_of(info)}, or prepare it as TFRecord."
        )
    parts = [Part(os.fspath(i.filename), i.skip, i.take) for i in info.file_instructions]
    decode_stored = by_row(name, rows.parse)
    return make_reader(
        name,
        parts,
        info.num_examples,
        lambda records: rows.finish(decode_stored(records)),
        shuffle_buffer=shuffle_buffer,
        random_access=random_access,
    )


class TfdsRows:
    """The conversion of a data set's examples to rows: the features to take, and the size of images."""

    def __init__(
        self,
        builder: "tfds.core.DatasetBuilder",
        keys: Any,
        image_size: tuple[int, int] | None,
        *,
        encoded: bool = False,
        masks: Sequence[str] = (),
    ) -> None:
        keys = keys if keys is not None else builder.info.supervised_keys
        features = builder.info.features
        if keys is None:
            raise UsageError(f"{builder.name}: it names no pair of input and label. Give keys from {sorted(features)}.")
        # tf.data would stack a list.
        self._keys = tuple(keys) if isinstance(keys, list) else keys
        self._names = tf.nest.flatten(self._keys)
        if unknown := [name for name in self._names if name not in features]:
            raise UsageError(f"{builder.name}: keys has {unknown}. Use {sorted(features)}.")
        if wrong := [name for name in masks if name not in self._names or not _is_image(features[name])]:
            raise UsageError(f"{builder.name}: masks has {wrong}. Use names of images in keys: {self._names}.")
        self.builder = builder
        self._masks = {name for name in self._names if name in masks or _is_mask(features[name])}
        self._features = [features[name] for name in self._names]
        self._size = None if image_size is None else pixels.check_size(builder.name, "image_size", image_size)
        self._encoded = encoded
        self._check()

    @property
    def class_names(self) -> list[str] | None:
        """Names of the classes of the first class label, or None; a data set without names has the numbers."""
        labels = (feature for feature in self._features if getattr(feature, "num_classes", None))
        return next((label.names for label in labels), None)

    def bytes_of(self, split: "tfds.core.SplitInfo") -> int:
        """Returns an upper bound of the bytes of a split in memory: fixed shapes, and its files for strings."""
        files = {i.filename for i in split.file_instructions}
        stored: int = sum(tf.io.gfile.stat(os.fspath(file)).length for file in files)
        return stored + int(split.num_examples) * sum(map(self._bytes, self._features))

    def read(self, split: str) -> Any:
        """Reads a split: nested arrays (rows, ...), not yet finished."""
        import tensorflow_datasets as tfds

        # One file after the other, so that the rows keep the order in which they are stored.
        config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
        examples = self.builder.as_dataset(
            split=split, shuffle_files=False, read_config=config, decoders=self._decoders()
        )
        rows = examples.map(as_written(self._row), num_parallel_calls=tf.data.AUTOTUNE)
        batches = list(rows.batch(_READ_ROWS).as_numpy_iterator())
        return tf.nest.map_structure(lambda *arrays: np.concatenate(arrays), *batches)

    def parse(self, record: tf.Tensor) -> Any:
        """Turns a serialized example into a row, not yet finished."""
        return self._row(self.builder.info.features.deserialize_example(record, decoders=self._decoders()))

    def _decoders(self) -> dict[str, "tfds.decode.Decoder"]:
        """Returns which features TFDS leaves as they are stored."""
        import tensorflow_datasets as tfds

        both = zip(self._names, self._features, strict=True)
        return {name: tfds.decode.SkipDecoding() for name, f in both if _is_image(f) and self._encoded}

    def finish(self, batch: Any) -> Any:
        """Turns images into float32 in 0..1 and masks into int32, unless they stay encoded."""
        parts = zip(self._names, self._features, tf.nest.flatten(batch), strict=True)
        values = [self._finished(name, value) if self._is_decoded(f) else value for name, f, value in parts]
        return tf.nest.pack_sequence_as(self._keys, values)

    def _finished(self, name: str, value: Any) -> tf.Tensor:
        return tf.cast(value, tf.int32) if name in self._masks else pixels.to_floats(value)

    def _row(self, example: dict[str, Any]) -> Any:
        parts = []
        for name, feature in zip(self._names, self._features, strict=True):
            size = self._new_size(feature)
            resize = pixels.resize_mask if name in self._masks else pixels.resize
            parts.append(example[name] if size is None else resize(example[name], size))
        return tf.nest.pack_sequence_as(self._keys, parts)

    def _new_size(self, feature: "tfds.features.FeatureConnector") -> tuple[int, int] | None:
        """Returns the size to which a feature is resized, or None."""
        return self._size if self._is_decoded(feature) else None

    def _is_decoded(self, feature: "tfds.features.FeatureConnector") -> bool:
        return _is_image(feature) and not self._encoded

    def _bytes(self, feature: "tfds.features.FeatureConnector") -> int:
        size = self._new_size(feature)
        if size is not None:
            return 4 * size[0] * size[1] * int(feature.shape[-1])
        if _is_image(feature) and self._encoded:
            return 0
        return int(np.prod(feature.shape)) * int(np.dtype(feature.np_dtype).itemsize)

    def _check(self) -> None:
        of = self.builder.name
        if self._encoded and self._size is not None:
            raise UsageError(f"{of}: with encoded, image_size has no effect. Leave one of them out.")
        if (self._encoded or self._size is not None) and not any(map(_is_image, self._features)):
            option = "encoded is True" if self._encoded else f"image_size is {self._size}"
            raise UsageError(f"{of}: {option}, but {self._keys} has no image. Leave it out, or give other keys.")
        for name, feature in zip(self._names, self._features, strict=True):
            shape = feature.shape
            if _is_image(feature) and self._encoded:
                continue
            if not isinstance(shape, tuple):
                raise UsageError(f"{of}: {name!r} is not a tensor, but {shape}. Choose other keys.")
            if None in (shape if self._new_size(feature) is None else shape[-1:]):
                cure = "Give image_size, or encoded=True." if _is_image(feature) else "Choose other keys."
                raise UsageError(f"{of}: the sizes of {name!r} differ: {shape}. {cure}")


def _is_image(feature: "tfds.features.FeatureConnector") -> bool:
    import tensorflow_datasets as tfds

    return isinstance(feature, tfds.features.Image)


def _is_mask(feature: "tfds.features.FeatureConnector") -> bool:
    """Returns whether TFDS says that an image's values are numbers of classes, such as by the colours it draws."""
    import tensorflow_datasets as tfds

    return isinstance(feature, tfds.features.LabeledImage) or bool(getattr(feature, "use_colormap", False))
