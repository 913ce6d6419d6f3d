"""MNIST on all GPUs of one machine, or on two logical CPU devices: the classic first example of tf.distribute.

python -m tfdist.train --recipe=recipes/classification/mnist_mirrored.py --download

The model is that of TensorFlow's tutorial: Conv 32 – pool – dense 128 – dense 10, Adam. It names no accuracy.
Measured: not yet on MNIST itself; the tests run it on a folder of its format with generated images.
"""

from tfdist import RunConfig


def recipe():
    """Returns the run."""
    return RunConfig(
        name="mnist_mirrored",
        strategy="mirrored",
        model="cnn",
        model_options={"filters": (32,), "dense": 128},
        dataset="mnist",
        global_batch=128,
        epochs=5,
        optimizer="adam",
        learning_rate=1e-3,
    )
