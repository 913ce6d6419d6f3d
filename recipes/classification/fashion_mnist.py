"""A small CNN on Fashion-MNIST, which Debian has as a package.

python -m tfdist.train --recipe=recipes/classification/fashion_mnist.py

Data: `apt install dataset-fashion-mnist`, or --download, or --data_dir with the four IDX files.
"""

import keras

from tfdist import RunConfig, ScheduleOptions
from tfdist.data import augment
from tfdist.models.dropout import RowDropout


def make_model():
    """Returns 151,850 parameters: five convolutions, of which three work on 7 x 7 pixels or fewer."""
    inputs = x = keras.Input((28, 28, 1))
    x = conv(x, 32, kernel=5, strides=2)
    x = keras.layers.MaxPooling2D()(conv(x, 32))
    x = conv(x, 64)
    x = keras.layers.MaxPooling2D()(conv(x, 64))
    x = keras.layers.Flatten()(conv(x, 128))
    x = RowDropout(0.3)(x)
    return keras.Model(inputs, keras.layers.Dense(10, "softmax")(x), name="fashion_mnist")


def conv(x, filters, kernel=3, strides=1):
    """Returns a convolution of x, BatchNorm, ReLU."""
    options = {"padding": "same", "use_bias": False, "kernel_initializer": "he_normal"}
    x = keras.layers.Conv2D(filters, kernel, strides, **options)(x)
    return keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x))


def recipe():
    """Returns the run."""
    return RunConfig(
        name="fashion_mnist",
        model=make_model,
        dataset="fashion_mnist",
        augmentation=lambda: augment.on_images(augment.flip()),
        global_batch=128,
        epochs=10,
        optimizer="adam",
        learning_rate=3e-3,
        schedule=ScheduleOptions(kind="cosine", warmup_epochs=1),
    )
