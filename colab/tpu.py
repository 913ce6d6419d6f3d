# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A TPU, or its rehearsal
#
# On a TPU this notebook trains on its cores. Without one it rehearses: it traces what a TPU would be given, runs
# that on two stand-ins for cores, and compiles it with the TPU's own compiler. **No one has run it on a TPU
# yet.** If you do, the page of the last cell is worth an issue.
#
# **On Colab:** *Runtime → Change runtime type → v5e-1 TPU*, then *Runtime → Run all*. The first cell brings
# TensorFlow, because Colab's TPU machines have none.

# %%
import importlib.util
import os
import re
import subprocess
import sys

REPOSITORY = "https://github.com/OWNER/tfdist"  # Put the address here under which you found this notebook.
QUICK = os.environ.get("TFDIST_QUICK") == "1"  # Few rows and steps, to see that every cell runs.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Without TensorFlow's own lines about the processor.


def run(*command):
    """Runs `python -m command`, and shows each line as it comes."""
    with subprocess.Popen(
        [sys.executable, "-u", "-m", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout:
            if not re.search(r"[IW]0000 00:00|absl::InitializeLog", line):  # TensorFlow's, which no level leaves out
                print(line, end="")
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} has ended with exit code {process.returncode}")


if importlib.util.find_spec("tfdist") is None:
    subprocess.run(["git", "clone", "--quiet", "--depth=1", REPOSITORY, "tfdist_clone"], check=True)
    # Colab has a TensorFlow, except on its TPU machines.
    without = "[tpu]" if "COLAB_RELEASE_TAG" in os.environ else "[cpu]"
    run("pip", "install", "--quiet", "./tfdist_clone" + ("" if importlib.util.find_spec("tensorflow") else without))
    importlib.invalidate_caches()

# %% [markdown]
# ## What a TPU needs
#
# A TensorFlow that is built for TPUs, and the chips. The doctor looks for both, and says what to do where one is
# missing.

# %%
run("tfdist.doctor")

# %% [markdown]
# `choose_strategy("tpu")` says in one line why there is no TPU; with `"auto"` it would log that line and go on by
# itself. The rehearsal needs two logical CPU devices, which `mirrored` makes.

# %%
import pathlib
import tempfile

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

import tfdist

tf.get_logger().setLevel("WARNING")
try:
    strategy = tfdist.choose_strategy("tpu")
    rehearsal = False
except RuntimeError as error:
    print(error)
    tf.config.set_visible_devices([], "GPU")
    strategy = tfdist.choose_strategy("mirrored")
    rehearsal = True

# %% [markdown]
# ## Train
#
# Fashion-MNIST from Debian's package or Keras' server, or the digits that come with tfdist. Nothing here is about
# TPUs: tfdist gives all batches one shape, because a TPU compiles for it. It fills up the last one with rows that
# count zero.

# %%
BATCH, EPOCHS, ROWS = (64, 4, 2000) if QUICK else (256, 4, 60_000)


def read(name):
    """Returns (images in 0..1, labels) of both splits, at most `ROWS` of each."""
    load = tfdist.data.load
    splits = [load(name, split=s, shuffle=False, global_batch=ROWS).first_rows(ROWS) for s in ("train", "test")]
    return [(np.asarray(x), np.asarray(y)) for x, y in splits]


def download():
    """Downloads the same from Keras' server."""
    return [(x[..., None] / np.float32(255), y.astype("int32")) for x, y in keras.datasets.fashion_mnist.load_data()]


try:
    (x, y), (x_test, y_test) = read("fashion_mnist")
except FileNotFoundError:
    try:
        (x, y), (x_test, y_test) = download()
    except Exception as error:
        print(f"No Fashion-MNIST, so digits: {error}")
        (x, y), (x_test, y_test) = read("digits")


def make_model():
    """Returns a compiled CNN, with the same first weights each time. Put your own model here."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            layers.Conv2D(32, 5, strides=2, padding="same", activation="relu"),
            layers.BatchNormalization(momentum=0.9),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


with strategy.scope():
    model = make_model()
tfdist.fit(model, x, y, batch_size=BATCH, epochs=EPOCHS, validation_data=(x_test, y_test), verbose=2)
accuracy = tfdist.evaluate(model, x_test, y_test, batch_size=256, verbose=0)[1]

flat, flat_test = (np.c_[part.reshape(len(part), -1), np.ones(len(part))] for part in (x, x_test))
solved = np.linalg.solve(flat.T @ flat + 10 * np.eye(flat.shape[1]), flat.T @ np.eye(10)[y])
linear = np.mean((flat_test @ solved).argmax(axis=1) == y_test)
print(f"test accuracy {accuracy:.3f}; a linear model (least squares) {linear:.3f}")
assert accuracy > linear

# %% [markdown]
# ## What a TPU would be given
#
# The real `TPUStrategy`, on two cores that are not there, up to the start of its first program. A step should be
# *one* program, each of its operations must be one that XLA compiles, and the sums over the cores are the only
# words between them.

# %%
if rehearsal:
    clone = pathlib.Path("tfdist_clone").resolve()
    sys.path.append(str((clone if clone.is_dir() else pathlib.Path(tfdist.__file__).parents[1]) / "tests"))
    from collections import Counter

    from support.tpu import make_tpu, trace

    cores = ["CPU:0", "CPU:1"]
    two_cores = make_tpu(cores)
    with two_cores.scope():
        model = make_model()
    few = {"x": x[: 2 * BATCH + 7], "y": y[: 2 * BATCH + 7], "batch_size": BATCH, "shuffle": False, "verbose": 0}
    traced = trace(lambda: tfdist.fit(model, **few))
    print(f"{traced.counts[0]} program a step, and {traced.counts[1]} at the end of a call of several steps")
    print(f"operations that XLA cannot compile: {traced.cannot_run() or 'none'}")

    kinds = Counter(node.op for node in traced.nodes).most_common()
    plumbing = {"Const", "Identity", "NoOp", "ReadVariableOp", "AssignVariableOp", "StopGradient"}
    shown = [(kind, count) for kind, count in kinds if kind not in plumbing][:20][::-1]
    colours = ["tab:orange" if kind == "CrossReplicaSum" else "tab:blue" for kind, _ in shown]
    plt.figure(figsize=(8, 4.6), layout="constrained")
    bars = plt.barh([kind for kind, _ in shown], [count for _, count in shown], color=colours)
    plt.bar_label(bars, padding=3, fontsize=8)
    plt.title("What one step of a TPU computes; orange: the sums over the cores")
    plt.xlabel("number of operations")
    plt.tick_params(axis="y", labelsize=8)
    plt.show()

# %% [markdown]
# ## N cores = one device
#
# On a TPU: its cores against this machine's CPU, in the same few steps. A TPU multiplies float32 matrices in
# bfloat16, which has three digits. In the rehearsal the program of each core runs on a logical CPU device, in
# double precision, so that the difference has to be rounding, 10⁻¹⁶.

# %%
few = {"x": x[: 2 * BATCH + 7], "y": y[: 2 * BATCH + 7], "batch_size": BATCH, "shuffle": False, "verbose": 0}


def weights_after(strategy):
    """Returns the weights of a new model after three steps, of which the last has seven rows."""
    with strategy.scope():
        model = make_model()
    tfdist.fit(model, **few)
    return model.get_weights()


precision, bound = ("float64", 1e-9) if rehearsal else ("float32", 8.8e-2)
keras.config.set_floatx(precision)
keras.config.set_dtype_policy(precision)
with tf.device("CPU:0"):
    alone = weights_after(tf.distribute.OneDeviceStrategy("CPU:0"))
if rehearsal:
    from support.emulated_tpu import emulated

    with emulated(cores):
        on_cores = weights_after(make_tpu(cores, packs=False))
else:
    on_cores = weights_after(strategy)
keras.config.set_floatx("float32")
keras.config.set_dtype_policy("float32")
difference = max(np.abs(a - b).max() / max(np.abs(a).max(), 1e-3) for a, b in zip(alone, on_cores, strict=True))
print(f"largest relative difference between the weights on the cores and on one CPU: {difference:.1e}")
assert difference < bound

# %% [markdown]
# ## Will it fit on a v5e?
#
# The TPU's own compiler runs without a TPU: `pip install 'jax>=0.10.2,<0.11' 'libtpu>=0.0.42'`, on a CPU machine
# alone. It says how much memory a chip needs for a step of *your* model, and refuses what a TPU cannot compute.

# %%
if rehearsal:
    from support import tpu_compiler
    from support.tpu_programs import TpuProgram

    missing = tpu_compiler.missing()
    if missing:
        print(f"Nothing is compiled here, because jax and libtpu are not installed ({missing.split('.')[0]}).")
    else:
        batches = (64,) if QUICK else (64, 256, 1024)
        with tempfile.TemporaryDirectory() as folder:
            sizes = [
                tpu_compiler.compile_for_tpu(TpuProgram(make_model, "fit", rows).hlo(), folder) for rows in batches
            ]
        parts = ("arguments", "outputs", "temporaries", "code")
        bottom = np.zeros(len(batches))
        plt.figure(figsize=(7, 3.6), layout="constrained")
        for part in parts:
            megabytes = np.array([getattr(each, part) / 1e6 for each in sizes])
            plt.bar([str(rows) for rows in batches], megabytes, bottom=bottom, label=part)
            bottom += megabytes
        plt.title("A step of this model on one v5e chip, which has 16,000 MB")
        plt.xlabel("rows of a chip's batch")
        plt.ylabel("memory, MB")
        plt.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
        plt.show()

# %% [markdown]
# ## What to try
#
# - Your own model in `make_model`: the rehearsal says beforehand what a TPU would refuse.
# - `keras.config.set_dtype_policy("mixed_bfloat16")` before the model is made: a TPU computes fastest in
#   bfloat16.
# - A TPU VM or several hosts: set `TPU_NAME`, and start the script on host 0 alone.

# %% [markdown]
# ## Prove it on this machine
#
# The acceptance trains in many ways here, compares with plain Keras on one CPU device, and prints one page. It
# takes some minutes. **Please paste the page into an issue**, whatever it says: it is how others learn what works
# on your hardware.

# %%
if "TPU" in type(globals().get("strategy")).__name__:
    raise RuntimeError("This notebook holds the TPU. Restart the session, then run the first cell and this one.")
run("tfdist.doctor", "--acceptance", *(["--only=predict"] if QUICK else []))
