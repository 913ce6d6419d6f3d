"""Data folders of TFDS as it prepares them, with rows made here: its own features, file names, shards and metadata.

Rows are a function of their number, and an image's colours of its class, so that a model can learn them.
"""

import io

import numpy as np
import tensorflow as tf


def write_cifar10(folder, rows=64, *, test_rows=16, shards=2, file_format="tfrecord"):
    """Prepares `cifar10` with 32 x 32 images below a folder, which it returns."""
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]

    def example(split, number):
        image = _picture(number, number % 10, (32, 32))
        return {"id": f"{split}_{number:05d}", "image": image, "label": number % 10}

    return _prepare("cifar10", folder, {"train": rows, "test": test_rows}, example, shards, file_format, names)


def write_mnist(folder, rows=64, *, test_rows=16, shards=1, file_format="tfrecord"):
    """Prepares `mnist` with 28 x 28 images below a folder, which it returns."""

    def example(split, number):
        return {"image": _picture(number, number % 10, (28, 28))[..., :1], "label": number % 10}

    return _prepare("mnist", folder, {"train": rows, "test": test_rows}, example, shards, file_format)


def write_imagenet(folder, rows=64, *, validation_rows=16, classes=1000, shards=2, file_format="tfrecord"):
    """Prepares `imagenet2012` with JPEGs of several sizes below a folder, which it returns.

    Args:
        folder: the data folder; TFDS adds `imagenet2012/5.1.0` to it.
        rows, validation_rows: of the splits "train" and "validation".
        classes: how many of the 1,000 classes occur.
        shards: files of a split, as "imagenet2012-train.tfrecord-00000-of-00002".
        file_format: "tfrecord" or "array_record".
    """

    def example(split, number):
        image = _jpeg(_picture(number, number % classes, _size(number)))
        return {"file_name": f"{split}_{number:08d}.JPEG", "image": image, "label": number % classes}

    return _prepare(
        "imagenet2012", folder, {"train": rows, "validation": validation_rows}, example, shards, file_format
    )


def write_pets(folder, rows=37, *, test_rows=37, shards=2, file_format="tfrecord"):
    """Prepares `oxford_iiit_pet` with JPEGs of several sizes, masks and boxes below a folder, which it returns."""
    import tensorflow_datasets as tfds

    def example(split, number):
        size = _size(number)
        mask = np.full((*size, 1), 2, np.uint8)
        mask[size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] = 1
        return {
            "image": _jpeg(_picture(number, number % 37, size)),
            "label": number % 37,
            "species": number % 2,
            "file_name": f"{split}_{number}.jpg",
            "segmentation_mask": mask,
            "head_bbox": tfds.features.BBox(0.25, 0.25, 0.5, 0.5),
        }

    return _prepare("oxford_iiit_pet", folder, {"train": rows, "test": test_rows}, example, shards, file_format)


def _prepare(name, folder, rows, example, shards, file_format, class_names=None):
    """Lets the builder of TFDS itself write the splits, from examples made here instead of a download."""
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=folder, file_format=file_format)

    def examples(split):
        return ((number, example(split, number)) for number in range(rows[split]))

    builder._split_generators = lambda *_: {split: examples(split) for split in rows}
    if class_names:
        builder.info.features["label"].names = class_names
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=shards))
    return folder


def _size(number):
    """Returns (height, width): photographs on their sides, upright and square ones."""
    return [(60, 80), (90, 60), (64, 64), (50, 110)][number % 4]


def _picture(number, label, size):
    """Returns uint8 (*size, 3): large soft spots around the colour of the class."""
    random = np.random.default_rng(number)
    colour = np.random.default_rng([1, label]).uniform(60, 190, 3)
    spots = colour + random.uniform(-60, 60, (4, 4, 3))
    return tf.cast(tf.image.resize(spots, size), tf.uint8).numpy()


def _jpeg(image):
    return io.BytesIO(tf.io.encode_jpeg(image, quality=90).numpy())
