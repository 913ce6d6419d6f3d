# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Several devices in one machine
#
# A CNN learns to tell clothes apart, on two replicas: once with `fit`, once with a loop written by hand. Then we
# look whether two replicas have learned what one device learns. On a machine with several GPUs it takes all of
# them. One GPU is split into two logical ones, and without a GPU there are two logical CPU devices: no faster,
# but the same code.
#
# **On Colab:** *Runtime → Change runtime type → T4 GPU*, then *Runtime → Run all*.

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
# ## The strategy comes first
#
# `choose_strategy` must come before anything else that uses TensorFlow's devices. It logs what it chose, and why.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

import tfdist

tf.get_logger().setLevel("WARNING")
gpus = tf.config.list_physical_devices("GPU")
if len(gpus) == 1:
    half = tf.config.LogicalDeviceConfiguration(memory_limit=4096)
    tf.config.set_logical_device_configuration(gpus[0], [half, half])
strategy = tfdist.choose_strategy("mirrored")

# %% [markdown]
# ## The data
#
# Fashion-MNIST: 70,000 grey images of clothes. Debian has it as a package; elsewhere Keras downloads it; without
# a network the handwritten digits that come with tfdist take its place. **Your own data:** any arrays of shape
# `(rows, …)`.

# %%
CLOTHES = ["T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]
BATCH, EPOCHS = (64, 4) if QUICK else (128, 5)


def read(name, most=2000 if QUICK else 60_000):
    """Returns (images in 0..1, labels) of both splits, at most so many rows."""
    load = tfdist.data.load
    splits = [load(name, split=s, shuffle=False, global_batch=most).first_rows(most) for s in ("train", "test")]
    return [(np.asarray(x), np.asarray(y)) for x, y in splits]


def download():
    """Downloads the same from Keras' server."""
    return [(x[..., None] / np.float32(255), y.astype("int32")) for x, y in keras.datasets.fashion_mnist.load_data()]


names = CLOTHES
try:
    (x, y), (x_test, y_test) = read("fashion_mnist")
except FileNotFoundError:
    try:
        (x, y), (x_test, y_test) = download()
    except Exception as error:
        print(f"No Fashion-MNIST, so digits: {error}")
        names = [str(digit) for digit in range(10)]
        (x, y), (x_test, y_test) = read("digits")
# The order of the rows depends on the seed and the epoch, never on the number of replicas.
train = tfdist.data.from_arrays(x, y, global_batch=BATCH, seed=0)
print(f"{len(x):,} images to train, {len(x_test):,} to test, {train.cardinality} steps of {BATCH} an epoch")

# %% [markdown]
# ## `fit`, as in Keras
#
# Two things differ from Keras on one device: the model is made and compiled in the strategy's scope, and `fit` is
# `tfdist.fit`. A batch is divided among the replicas. BatchNormalization takes its statistics over all its rows,
# and an uneven last batch counts row by row.


# %%
def make_model():
    """Returns a CNN with BatchNormalization. Put your own model here."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            layers.Conv2D(32, 5, strides=2, padding="same", activation="relu"),
            layers.BatchNormalization(momentum=0.9, synchronized=True),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.BatchNormalization(momentum=0.9, synchronized=True),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def make_compiled():
    """Returns the model, compiled, with the same first weights each time."""
    keras.utils.set_random_seed(0)
    model = make_model()
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


with strategy.scope():
    model = make_compiled()
history = tfdist.fit(model, train, epochs=EPOCHS, validation_data=(x_test, y_test), verbose=2).history

# %% [markdown]
# ## The loop by hand
#
# The same epoch, step by step. `global_mean` takes the mean over the rows of all replicas; `apply_gradients` sums
# the gradients over the replicas once, then clips, then updates. `open_run` yields the batches; with a folder in
# place of `None` it also saves, and goes on after a kill.

# %%
keras.utils.set_random_seed(0)
with strategy.scope():
    own, optimizer = make_model(), keras.optimizers.Adam(1e-3)
loss_fn = keras.losses.SparseCategoricalCrossentropy(reduction=None)


@tf.function(reduce_retracing=True)
def train_step(images, labels):
    """Takes one step on each replica; returns the loss over the rows of all replicas."""
    with tf.GradientTape() as tape:
        rows = loss_fn(labels, own(images, training=True))  # one loss a row
        loss = tfdist.global_mean(rows) + tfdist.regularization(own)
    gradients = tape.gradient(loss, own.trainable_variables)
    tfdist.apply_gradients(optimizer, gradients, own.trainable_variables)
    return loss


losses = []
with tfdist.open_run(None, own, optimizer, train) as by_hand:
    for images, labels in by_hand.batches(epochs=1):
        loss = strategy.run(train_step, args=(images, labels))
        losses.append(float(strategy.experimental_local_results(loss)[0]))
sizes = np.full(len(losses), BATCH)
sizes[-1] = train.rows - BATCH * (len(losses) - 1)  # the last batch is smaller
print(f"loss of the first epoch: {np.average(losses, weights=sizes):.4f} by hand, {history['loss'][0]:.4f} with fit")

# %% [markdown]
# ## Look
#
# A network should beat what is simpler: always saying the most frequent class, and a linear model (least squares,
# solved at once).

# %%
flat, flat_test = (np.c_[part.reshape(len(part), -1), np.ones(len(part))] for part in (x, x_test))
solved = np.linalg.solve(flat.T @ flat + 10 * np.eye(flat.shape[1]), flat.T @ np.eye(10)[y])
linear = np.mean((flat_test @ solved).argmax(axis=1) == y_test)
most_frequent = np.bincount(y_test).max() / len(y_test)

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
left.plot(np.arange(1, len(losses) + 1), losses, color="tab:gray", linewidth=1)
left.set(title="By hand: one epoch, step by step", xlabel="step", ylabel="loss of the global batch", ylim=0)
epochs = np.arange(1, EPOCHS + 1)
right.plot(epochs, history["accuracy"], "o-", color="tab:blue", label="CNN, training rows")
right.plot(epochs, history["val_accuracy"], "o-", color="tab:orange", label="CNN, test rows")
right.axhline(linear, color="tab:green", linestyle="--", label="linear model, test rows")
right.set(title="fit: the CNN against what is simpler", xlabel="epoch", ylabel="accuracy", xticks=epochs)
right.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## Two replicas = one device
#
# Six steps in double precision, in which rounding is 10⁻¹⁶; the last batch is odd. The same first weights, the
# same rows, one device and all replicas. One number tells: how far apart their weights are at the end.

# %%
keras.config.set_floatx("float64")
keras.config.set_dtype_policy("float64")
few = tfdist.data.from_arrays(x[: 5 * BATCH + 7], y[: 5 * BATCH + 7], global_batch=BATCH, seed=0)
one_device = tfdist.choose_strategy("one_device")
found = []
for each in (one_device, strategy):
    with each.scope():
        compiled = make_compiled()
    tfdist.fit(compiled, few, verbose=0)
    found.append(compiled.get_weights())
keras.config.set_floatx("float32")
keras.config.set_dtype_policy("float32")

difference = max(np.abs(one - several).max() for one, several in zip(*found, strict=True))
replicas = strategy.num_replicas_in_sync
print(f"largest difference between the weights of {replicas} replicas and of one device: {difference:.1e}")
assert difference < 1e-9

# %% [markdown]
# ## The mark, and the mistakes
#
# `predict` returns the rows in their order, on any number of replicas.

# %%
predicted = tfdist.predict(model, x_test, batch_size=256, verbose=0).argmax(axis=1)
accuracy = np.mean(predicted == y_test)
print(f"test accuracy {accuracy:.3f}; linear model {linear:.3f}; most frequent class {most_frequent:.3f}")
assert accuracy > linear
# Five epochs of all rows reached 0.907 on two CPU devices; 0.885 was the lowest after any of them.
assert QUICK or names is not CLOTHES or accuracy > 0.88

wrong = np.flatnonzero(predicted != y_test)[:12]
figure, axes = plt.subplots(2, 6, figsize=(11, 5.2), layout="constrained")
figure.suptitle(f"{np.sum(predicted != y_test):,} of {len(y_test):,} test images are wrong; the first of them")
for cell in axes.flat:
    cell.axis("off")
for cell, row in zip(axes.flat, wrong, strict=False):
    cell.imshow(x_test[row, :, :, 0], cmap="gray_r")
    cell.set_title(f"{names[predicted[row]]}?\nno, {names[y_test[row]]}", fontsize=9)
plt.show()

# %% [markdown]
# ## What to try
#
# - Your own model in `make_model`, your own arrays in place of `x` and `y`.
# - `tfdist.fit(…, run_dir="runs/mine")` saves checkpoints; run the cell again, and it goes on from them.
# - More devices: `python -m tfdist.launch --workers=2 -- mine.py`, as in the notebook `multi_worker`.
# - Does *your* model train the same on N replicas? `python -m tfdist.verify mine.py:build_fn` says so, or where
#   not.

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
