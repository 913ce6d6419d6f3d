"""Measures the recipe fashion_mnist beside stock `fit` on one device: rows per second of training with augmentation.

Both train the recipe's model on the first rows of Fashion-MNIST. tfdist reads them as the recipe does; stock Keras gets
a `tf.data` pipeline that shuffles, flips, shifts and prefetches. The second of two epochs is timed.

Usage: python benchmarks/fashion_mnist.py [--rounds=N] [--out_dir=FOLDER] [--data_dir=FOLDER]
"""

import os
import pathlib
import sys

from tfdist.assembly.recipe_file import load_recipe
from tfdist.bench import script
from tfdist.bench.config import OURS, STOCK

HERE = pathlib.Path(__file__).parent
RECIPE = HERE.parent / "recipes" / "classification" / "fashion_mnist.py"
FIGURE = "rows/s"
STEPS = 30


def main(arguments):
    """Measures, prints and writes."""
    more = [("--data_dir", {"help": "the folder of the four IDX files, if they are not Debian's"})]
    folder = HERE / "results" / "fashion_mnist"
    given = script.read_flags(arguments, text=__doc__, out_dir=folder, default_rounds=7, more=more)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    config = load_recipe(RECIPE).replace(epochs=2)
    if given.data_dir:
        config = config.replace(data_dir=given.data_dir)
    rows = first_rows(config)
    measures = {OURS: trainer(config, rows, ours), STOCK: trainer(config, rows, stock)}
    for measure in measures.values():
        # The first measurement traces.
        measure()
    script.run(measures, given, measured={"batch": config.global_batch, "steps": STEPS})


def first_rows(config):
    """Returns the images and the labels of `STEPS` steps, as arrays."""
    from tfdist import data

    count = STEPS * config.global_batch
    train = data.load(config.dataset, data_dir=config.data_dir, shuffle=False, global_batch=count)
    return [part.numpy() for part in train.first_rows(count)]


def trainer(config, rows, fit):
    """Returns a function that trains for two epochs, and returns the rows per second of the second."""
    from tfdist import data
    from tfdist.assembly import assemble
    from tfdist.bench.contenders import SecondEpoch

    source = data.from_arrays(*rows, global_batch=config.global_batch).map(config.augmentation())
    model = assemble.make_model(config, source)

    def measure():
        clock = SecondEpoch()
        fit(model, source, rows, clock)
        return {FIGURE: len(rows[0]) / clock.seconds}

    return measure


def ours(model, source, rows, clock):
    """Trains with `tfdist.fit`."""
    import tfdist

    del rows
    tfdist.fit(model, source, epochs=2, verbose=0, callbacks=[clock])


def stock(model, source, rows, clock):
    """Trains with `keras.Model.fit`, on a pipeline by hand."""
    import tensorflow as tf

    def augment(image, label):
        padded = tf.pad(tf.image.random_flip_left_right(image), [[1, 1], [1, 1], [0, 0]])
        return tf.image.random_crop(padded, image.shape), label

    images = tf.data.Dataset.from_tensor_slices(tuple(rows)).shuffle(len(rows[0])).map(augment, tf.data.AUTOTUNE)
    batches = images.batch(source.global_batch).prefetch(tf.data.AUTOTUNE)
    model.fit(batches, epochs=2, verbose=0, callbacks=[clock])


if __name__ == "__main__":
    main(sys.argv[1:])
