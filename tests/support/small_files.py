"""Small files for the tests of tfdist.data."""

import functools

import numpy as np
import tensorflow as tf

ROWS = 23
FEATURES = {"number": tf.io.FixedLenFeature((), tf.int64)}


def write_records(path, numbers, *, compression=""):
    """Writes records of one feature, "number"."""
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for number in numbers:
            values = tf.train.Int64List(value=[number])
            features = {"number": tf.train.Feature(int64_list=values)}
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())
    return path


def write_image(path, value, shape=(6, 8, 3)):
    """Writes a PNG of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tf.io.write_file(str(path), tf.io.encode_png(np.full(shape, value, np.uint8)))
    return path


def write_images(folder):
    """Writes PNGs of the classes "ant" and "bee"; row i has the colour 10 i."""
    for i in range(ROWS):
        write_image(folder / "train" / ("ant" if i < 9 else "bee") / f"{i:02d}.png", 10 * i)
    return folder


def write_example_images(folder):
    """Writes three TFRecord files of images and labels; row i has the colour 10 i."""
    folder.mkdir(parents=True)
    for part, numbers in enumerate(np.split(np.arange(ROWS), [4, 15])):
        with tf.io.TFRecordWriter(str(folder / f"train-{part:05d}-of-00003")) as writer:
            for number in numbers:
                image = tf.io.encode_png(np.full((6, 8, 3), 10 * number, np.uint8)).numpy()
                features = {
                    "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
                    "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[number % 3])),
                }
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())
    return folder


@functools.cache
def tiny_set():
    """Returns the TFDS builder `tiny_set`; TFDS takes a name once a process."""
    import tensorflow_datasets as tfds

    class TinySet(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            parts = {
                "image": tfds.features.Image(shape=(6, 8, 3)),
                "sketch": tfds.features.Image(shape=(None, None, 1)),
                "label": tfds.features.ClassLabel(num_classes=3),
            }
            features = tfds.features.FeaturesDict(parts)
            keys = ("image", "label")
            return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=keys)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(ROWS), "test": self._generate_examples(4)}

        def _generate_examples(self, rows):
            for i in range(rows):
                image = np.full((6, 8, 3), 10 * i, np.uint8)
                yield i, {"image": image, "sketch": image[: i % 3 + 1, :, :1], "label": i % 3}

    return TinySet


def write_tfds(folder):
    """Prepares `tiny_set` as TFDS would; row i of "train" has the colour 10 i."""
    tiny_set()(data_dir=folder, file_format="tfrecord").download_and_prepare()
    return folder
