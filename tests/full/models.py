"""Tries each kind of model of `tfdist.models` in every way that it can be trained, and writes the table of results.

Usage: python tests/full/models.py [part of a row's name ...]; exit code 1 where a row is not as it should be. With
parts of names only those rows are run, and nothing is written.
"""

import contextlib
import dataclasses
import os
import pathlib
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path[:0] = [str(pathlib.Path(__file__).parents[1]), str(pathlib.Path(__file__).parents[2])]

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from full import evidence  # noqa: E402
from support import gpu_kernels, tpu  # noqa: E402

import tfdist  # noqa: E402
from tfdist.strategy import hardware  # noqa: E402

COMMAND = "python tests/full/models.py"
TITLE = """Models of each kind, in every way that they can be trained

Two steps of SGD on seven generated rows of 32×32×3, without dropout, in batches of four and three. Two replicas in
float64, and XLA in float64: the largest difference of a weight to Keras' own `fit` on one device. Mixed precision: the
difference of the first step's loss to that in float32, compiled by XLA. A TPU's two cores: what could not run there,
and the types of the sums. GPUs: what has no kernel for them, of the operations of one GPU under three policies and of
two GPUs. The larger sizes of a kind repeat its blocks."""
COLUMNS = ("row", "as it should be", "result", "seconds")
SHAPE, CLASSES, ROWS = (32, 32, 3), 5, 7
# Kind → the options without randomness, small where it has a size.
MODELS = {
    "vgg16": {"dense": (64,), "dropout": 0.0},
    "mobilenet_v2": {"width": 0.35, "dropout": 0.0},
    "efficientnet_b0": {"dropout": 0.0, "stochastic_depth": 0.0},
    "vit_ti16": {"position": "sincos", "pool": "average"},
}
# In float64. Rounding alone differs between the replicas' sums and one device's.
TOLERANCE = 1e-9
LOSS_TOLERANCE = {"mixed_bfloat16": 0.1, "mixed_float16": 0.02}


@contextlib.contextmanager
def policy(name):
    """Makes Keras' layers use a dtype policy for a while, and its losses float64 with that."""
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64" if name == "float64" else "float32")
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])


def trained(name, fit, strategy=None, **arguments):
    """Trains a model for two steps; returns (how far a weight moved at most, weights, the epoch's loss)."""
    keras.utils.set_random_seed(1)
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = tfdist.models.build(name, classes=CLASSES, input_shape=SHAPE, **MODELS[name])
        model.compile(keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
    before = _vector(model)
    random = np.random.default_rng(0)
    x, y = random.random((ROWS, *SHAPE)), np.arange(ROWS) % CLASSES
    history = fit(model, x, y, batch_size=4, shuffle=False, verbose=0, **arguments).history
    after = _vector(model)
    return float(np.abs(after - before).max()), after, history["loss"][0]


def _vector(model):
    return np.concatenate([np.asarray(weight, "float64").ravel() for weight in model.weights])


def _same_as_plain(name, **arguments):
    with policy("float64"):
        moved, plain, loss = trained(name, keras.Model.fit)
        _, other, other_loss = trained(name, tfdist.fit, **arguments)
    distance = float(np.abs(plain - other).max())
    right = distance < TOLERANCE < moved and abs(loss - other_loss) < 1e-5
    return right, f"differs by {distance:.1e}, where training moves by {moved:.1e}"


def two_replicas(name):
    return _same_as_plain(name, strategy=_replicas())


def _replicas():
    # TensorFlow's collectives know one strategy a process.
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice())


def xla(name):
    return _same_as_plain(name, jit_compile=True)


def _mixed(name, policy_name):
    _, _, loss = trained(name, tfdist.fit, jit_compile=True)
    with policy(policy_name):
        moved, weights, mixed = trained(name, tfdist.fit, jit_compile=True)
    right = moved > 0 and bool(np.isfinite(weights).all()) and abs(mixed - loss) < LOSS_TOLERANCE[policy_name]
    return right, f"loss {mixed:.4f}, in float32 {loss:.4f}"


def mixed_bfloat16(name):
    return _mixed(name, "mixed_bfloat16")


def mixed_float16(name):
    return _mixed(name, "mixed_float16")


def two_tpu_cores(name):
    strategy = tpu.make_tpu(hardware.logical_cpus(4)[:2])
    found = tpu.trace(lambda: trained(name, tfdist.fit, strategy))
    wrong = found.cannot_run()
    right = not wrong and sum(found.counts) > 0 and found.counts[0] <= 1
    return right, "; ".join(wrong) or f"{len(found.nodes)} operations, sums of {', '.join(sorted(set(found.sums())))}"


def gpus(name):
    mirrored = tf.distribute.MirroredStrategy(["CPU:1", "CPU:2"], cross_device_ops=tf.distribute.NcclAllReduce())
    runs = [("float32", mirrored)]
    runs += [(each, tf.distribute.OneDeviceStrategy("CPU:1")) for each in ("mixed_bfloat16", "mixed_float16")]
    known, wrong = 0, []
    for policy_name, strategy in runs:
        with policy(policy_name), gpu_kernels.stopped_before_running() as graphs:
            trained(name, tfdist.fit, strategy)
        found = gpu_kernels.look(graphs[0])
        known += found.known
        wrong += [f"{policy_name}: {each}" for each in gpu_kernels.unexplained(found)]
    return known > 100 and not wrong, "; ".join(wrong) or f"{known} operations have kernels"


CHECKS = (two_replicas, xla, mixed_bfloat16, mixed_float16, two_tpu_cores, gpus)


@dataclasses.dataclass(frozen=True)
class Trial:
    """A model, tried in one way.

    Attributes:
        name: the model's name.
        check: one of `CHECKS`.
    """

    name: str
    check: object

    def __str__(self):
        """Returns the row's name."""
        return f"{self.name}, {self.check.__name__.replace('_', ' ')}"

    def run(self):
        """Runs it; returns its cells."""
        began = time.monotonic()
        right, result = self.check(self.name)
        return [str(self), "yes" if right else "NO", result, f"{time.monotonic() - began:.0f}"]


def rows():
    """Lists every row of the table."""
    return [Trial(name, check) for name in MODELS for check in CHECKS]


def main(parts):
    """Runs the rows; returns the exit code."""
    hardware.logical_cpus(4)
    page = {"name": "models", "title": TITLE, "command": COMMAND, "columns": COLUMNS}
    return evidence.measure(rows(), Trial.run, parts, **page)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
