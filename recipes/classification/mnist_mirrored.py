"""MNIST on all GPUs of one machine, or on two logical CPU devices: the classic first example of tf.distribute."""

from tfdist import RunConfig


def recipe():
    """Conv 32 – pool – dense 128 – dense 10, Adam; MNIST through TensorFlow Datasets.

    Get the data once with `--download`, or point `--data_dir` at a folder that TensorFlow Datasets has prepared.
    Not yet run on MNIST itself by us: the tests run it on a prepared folder of MNIST's shape.
    """
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
