"""A small CNN on Fashion-MNIST, which Debian has as a package.

python -m tfdist.train --recipe=recipes/classification/fashion_mnist.py

Data: `apt install dataset-fashion-mnist`, or --data_dir with the four IDX files, or --download through TFDS.
Measured: 92.93 % after the last epoch, seed 0, one device of two CPU cores, 32 minutes of CPU (2026-12-01). The recipe
was chosen on 5,000 rows kept from the training set. Two replicas: 20 steps within 1e-14 of one device, in float64.
"""

from tfdist import RunConfig, ScheduleOptions, data


def make_model():
    """Returns 151,850 parameters: five convolutions, of which three work on 7 x 7 pixels or fewer."""
    import keras

    from tfdist.models.dropout import RowDropout

    inputs = x = keras.Input((28, 28, 1))
    x = conv_norm(x, 32, kernel=5, strides=2)
    x = keras.layers.MaxPooling2D()(conv_norm(x, 32))
    x = conv_norm(x, 64)
    x = keras.layers.MaxPooling2D()(conv_norm(x, 64))
    x = keras.layers.Flatten()(conv_norm(x, 128))
    x = RowDropout(0.3)(x)
    return keras.Model(inputs, keras.layers.Dense(10, "softmax")(x), name="fashion_mnist")


def conv_norm(x, filters, kernel=3, strides=1):
    """Returns a convolution of x, BatchNorm, ReLU."""
    from keras import layers

    x = layers.Conv2D(filters, kernel, strides, "same", use_bias=False, kernel_initializer="he_normal")(x)
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x))


def make_augmentation():
    """Returns flips, and shifts of one pixel."""
    return data.augment.on_images(data.augment.flip(), data.augment.pad_crop(1))


def recipe():
    """Returns the run."""
    return RunConfig(
        name="fashion_mnist",
        model=make_model,
        dataset="fashion_mnist",
        augmentation=make_augmentation,
        global_batch=128,
        epochs=15,
        optimizer="adam",
        learning_rate=3e-3,
        schedule=ScheduleOptions(kind="cosine", warmup_epochs=1),
    )
