"""Measures how many JPEG images per second a core turns into batches, with tfdist's and with a hand-written pipeline.

Both read the same TFRecord files, shuffle files and records, cut a random part out of each image while decoding it,
resize it to 224 × 224, flip it at random, normalize it and make batches, in order. Decoding alone is measured too, and
tfdist's pipeline when the whole image is decoded first.

Usage: python benchmarks/input.py [--rounds=N] [--out_dir=FOLDER]
"""

import os
import pathlib
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from tfdist import data
from tfdist.bench import script
from tfdist.cluster.cores import processors
from tfdist.data import augment
from tfdist.data.delivery import delivery

SIZE = (224, 224)
# The mean and standard deviation of ImageNet's pixels in common use.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGES, FILES, BATCH, BUFFER, SEED = 384, 4, 64, 256, 0
WARM_UP_SECONDS, SECONDS = 1.0, 2.0
RATE, CPU = "images/s per core", "ms of CPU per image"
TFDIST, BY_HAND, DECODE, WHOLE = "tfdist", "tf.data by hand", "decode_and_crop_jpeg alone", "tfdist, whole images"


def main(arguments):
    """Makes the images, measures, prints and writes."""
    out_dir = pathlib.Path(__file__).parent / "results" / "input"
    given = script.read_flags(arguments, text=__doc__, out_dir=out_dir, default_rounds=9)
    with tempfile.TemporaryDirectory() as folder:
        image_bytes = write_images(pathlib.Path(folder))
        files = sorted(map(str, pathlib.Path(folder).iterdir()))
        makers = {
            TFDIST: lambda: tfdist_batches(folder, encoded=True),
            BY_HAND: lambda: batches_by_hand(files),
            DECODE: lambda: decoded_alone(files),
            WHOLE: lambda: tfdist_batches(folder, encoded=False),
        }
        measures = {name: lambda make=make: measure(make()) for name, make in makers.items()}
        about = {"images": IMAGES, "mean_bytes": image_bytes, "batch": BATCH, "size": list(SIZE)}
        script.run(measures, given, measured=about)


def measure(batches):
    """Reads batches for a while; returns images per second and core, and CPU time per image, without the warm-up."""
    _read_for(WARM_UP_SECONDS, batches)
    begin, cpu = time.perf_counter(), time.process_time()
    images = _read_for(SECONDS, batches) * BATCH
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    return {RATE: images / seconds / processors(), CPU: 1e3 * cpu / images}


def _read_for(seconds, batches):
    end, count = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        next(batches)
        count += 1
    return count


def tfdist_batches(folder, encoded):
    """Yields batches of tfdist's loader, as `tfdist.train` reads them with a recipe."""
    if encoded:
        options, augmented = {"encoded": True}, [augment.decode_resized_crop(SIZE, flip=True)]
    else:
        options, augmented = {"image_size": SIZE}, [augment.resized_crop(SIZE), augment.flip()]
    source = data.load("records", data_dir=folder, global_batch=BATCH, seed=SEED, shuffle_buffer=BUFFER, **options)
    source = source.map(augment.on_images(*augmented, augment.normalise(MEAN, STD)))
    strategy = tf.distribute.get_strategy()
    yield from delivery.elements(strategy, source.deliver(strategy)(), sys.maxsize)


def batches_by_hand(files):
    """Returns an iterator over batches of the fastest pipeline that we can write."""
    rows = records(files).map(row_by_hand, num_parallel_calls=tf.data.AUTOTUNE)
    return iter(rows.batch(BATCH).prefetch(tf.data.AUTOTUNE))


def decoded_alone(files):
    """Returns an iterator over batches of decoded parts of images, of which only one pixel is used."""

    def corner(record):
        image, _ = crop_by_hand(record)
        return image[0, 0, 0]

    return iter(records(files).map(corner, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH))


def records(files):
    """Returns serialized records without end: files shuffled and interleaved, then shuffled in a buffer."""
    names = tf.data.Dataset.from_tensor_slices(files).shuffle(len(files), seed=SEED)
    found = names.interleave(tf.data.TFRecordDataset, cycle_length=16, num_parallel_calls=tf.data.AUTOTUNE)
    return found.shuffle(BUFFER, seed=SEED).repeat()


def crop_by_hand(record):
    """Decodes a random part of a record's image: uint8 (height, width, 3), and the label."""
    features = {"image": tf.io.FixedLenFeature((), tf.string), "label": tf.io.FixedLenFeature((), tf.int64)}
    example = tf.io.parse_single_example(record, features)
    draws = tf.random.uniform([4])
    whole = tf.cast(tf.io.extract_jpeg_shape(example["image"])[:2], tf.float32)
    side = tf.sqrt((0.08 + 0.92 * draws[0]) * tf.reduce_prod(whole))
    proportion = tf.exp(np.log(3 / 4) / 2 + draws[1] * np.log(4 / 3))
    part = tf.maximum(tf.minimum(tf.stack([side / proportion, side * proportion]), whole), 1.0)
    window = tf.cast(tf.concat([draws[2:] * (whole - tf.floor(part)), part], axis=0), tf.int32)
    return tf.io.decode_and_crop_jpeg(example["image"], window, channels=3), example["label"]


def row_by_hand(record):
    """Makes a training row: float32 (224, 224, 3), and the label."""
    part, label = crop_by_hand(record)
    # Mirrored before resizing, and normalized as lines of pixels: both are faster than on the resized image.
    part = tf.cond(tf.random.uniform([]) < 0.5, lambda: tf.reverse(part, [1]), lambda: part)
    lines = tf.reshape(tf.image.resize(part, SIZE), [SIZE[0], SIZE[1] * 3])
    scale, offset = 1 / (255 * np.array(STD)), -np.array(MEAN) / np.array(STD)
    lines = lines * tf.constant(np.tile(scale, SIZE[1]), tf.float32)
    lines = lines + tf.constant(np.tile(offset, SIZE[1]), tf.float32)
    return tf.reshape(lines, [*SIZE, 3]), label


def write_images(folder):
    """Writes TFRecord files of JPEG images, smooth with a little noise; returns the mean bytes of an image."""
    random = np.random.default_rng(SEED)
    sizes = []
    for number in range(FILES):
        name = folder / f"train-{number:05d}-of-{FILES:05d}"
        with tf.io.TFRecordWriter(str(name)) as writer:
            for _ in range(IMAGES // FILES):
                image = make_image(random)
                sizes.append(len(image))
                writer.write(make_record(image, int(random.integers(1000))))
    return round(np.mean(sizes))


def make_image(random):
    """Makes a JPEG of 500 × 375 pixels, wide or tall, with about as many bytes as one of ImageNet."""
    shape = (375, 500) if random.random() < 0.75 else (500, 375)
    coarse = random.uniform(0, 255, (shape[0] // 25, shape[1] // 25, 3)).astype(np.float32)
    noise = random.normal(0, 9, (*shape, 3)).astype(np.float32)
    image = tf.image.resize(coarse, shape, method="bicubic") + noise
    return tf.io.encode_jpeg(tf.cast(tf.clip_by_value(image, 0, 255), tf.uint8), quality=95).numpy()


def make_record(image, label):
    """Makes a serialized example as TensorFlow Datasets writes it."""
    features = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


if __name__ == "__main__":
    main(sys.argv[1:])
