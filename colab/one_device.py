# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own photographs
#
# A folder of images with one sub-folder for each class, a network that has learned from other images, and a new
# last layer: that is transfer learning, and a few dozen images of each class are enough. First on one device;
# then the same code on several, which learn the same.
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
# ## The devices
#
# Both strategies are made before anything else uses TensorFlow's devices: `one` for a single device, `several`
# for all GPUs of this machine. One GPU is split into two logical ones, and without a GPU there are two logical
# CPU devices. They are no faster, but they run the code that several GPUs run.

# %%
import pathlib
import tempfile
import zlib

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
several = tfdist.choose_strategy("mirrored")
one = tfdist.choose_strategy("one_device")

# %% [markdown]
# ## If there is no network
#
# Then small pictures of clothes or digits take the place of photographs, in a folder as yours would be, and a
# small CNN that learns here takes the place of a large one. You need not read this cell.

# %%
# @title Small pictures and a small CNN { display-mode: "form" }
WORK = pathlib.Path(tempfile.mkdtemp())
MINE = (3, 5, 8)  # these classes are yours; the CNN learns the others first


def read_small_pictures(split):
    """Returns pictures (B, H, W, 1), labels and the classes' names, of Fashion-MNIST where it is, or else of digits."""
    given = {"split": split, "shuffle": False, "global_batch": 4000 if QUICK else 20_000}
    try:
        source = tfdist.data.load("fashion_mnist", **given)
    except FileNotFoundError:
        source = tfdist.data.load("digits", **given)
    pictures, labels = source.first_rows(given["global_batch"])
    return pictures.numpy(), labels.numpy(), source.class_names or [f"digit {number}" for number in range(10)]


def write_small_pictures(folder, of_each=120):
    """Writes some pictures of the classes in `MINE` into sub-folders; returns the folder."""
    pictures, labels, names = read_small_pictures("train")
    for label in MINE:
        (folder / names[label]).mkdir(parents=True)
        for number, row in enumerate(np.flatnonzero(labels == label)[:of_each]):
            image = tf.io.encode_png(tf.cast(pictures[row] * 255, tf.uint8))
            tf.io.write_file(str(folder / names[label] / f"{number}.png"), image)
    return folder


def make_small():
    """Returns a CNN for small pictures without its last layer."""
    inputs = x = keras.Input((32, 32, 3))
    for filters in (16, 32, 64):
        x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.MaxPooling2D()(keras.layers.ReLU()(x))
    return keras.Model(inputs, keras.layers.Flatten()(x))


def train_small():
    """Trains the small CNN on the classes that are not in `MINE`; returns its weights."""
    pictures, labels, _ = read_small_pictures("train")
    others = ~np.isin(labels, MINE)
    images = tf.image.grayscale_to_rgb(tf.image.resize(pictures[others], (32, 32))).numpy()
    with one.scope():
        network = make_small()
        model = keras.Sequential([network, keras.layers.Dense(10, activation="softmax")])
        model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy")
    tfdist.fit(model, images, labels[others], batch_size=64, epochs=2, verbose=0)
    return network.get_weights()


# %% [markdown]
# ## The images
#
# **Your own:** put the path of a folder into `FOLDER`, in which each class has a sub-folder, such as
# `FOLDER/cats/1.jpg`. On Colab, upload it on the left, or mount your Drive. Left empty, it is 3,670 photographs
# of flowers (220 MB).
#
# A quarter of the files is held out for the test. The name of a file decides, so that the two never mix, whenever
# you restart.

# %%
FOLDER = ""
FLOWERS = "https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz"


def find_images():
    """Returns a folder with a sub-folder for each class."""
    if FOLDER:
        return pathlib.Path(FOLDER)
    try:
        if QUICK:
            raise OSError("QUICK downloads nothing")
        unpacked = pathlib.Path(keras.utils.get_file(origin=FLOWERS, extract=True))
        return next(path.parent for path in unpacked.rglob("tulips"))
    except Exception as error:
        print(f"No flowers, so small pictures: {error}")
        return write_small_pictures(WORK / "small")


for path in find_images().resolve().glob("*/*.*"):
    split = "test" if zlib.crc32(path.name.encode()) % 4 == 0 else "train"
    link = WORK / "images" / split / path.parent.name / path.name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(path)

# %% [markdown]
# ## The network that has learned already
#
# MobileNetV2 with the weights of ImageNet, from `keras.applications`: any other of them will do.


# %%
def make_mobilenet(weights=None):
    """Returns MobileNetV2 without its last layer."""
    inputs, options = keras.Input((160, 160, 3)), {"include_top": False, "pooling": "avg"}
    network = keras.applications.MobileNetV2(weights=weights, input_shape=(160, 160, 3), **options)
    return keras.Model(inputs, network(keras.layers.Rescaling(2.0, offset=-1.0)(inputs)))


keras.utils.set_random_seed(0)
try:
    if QUICK:
        raise OSError("QUICK downloads nothing")
    make_network, learned = make_mobilenet, make_mobilenet("imagenet").get_weights()
except Exception as error:
    print(f"No weights of ImageNet, so a small CNN: {error}")
    make_network, learned = make_small, train_small()
size = make_network().input_shape[1:3]


# %% [markdown]
# ## The data, read by tfdist
#
# Only the images of a batch are decoded, each by the worker that needs it. Their order depends on the seed and
# the epoch alone.

# %%
BATCH = 32
options = {"data_dir": WORK / "images", "image_size": size, "keep_aspect": True, "global_batch": BATCH}
train = tfdist.data.load("images", split="train", seed=0, **options)
test = tfdist.data.load("images", split="test", **options)
names = train.class_names

images, labels = train.first_rows(10)
figure, axes = plt.subplots(2, 5, figsize=(11, 5.2), layout="constrained")
figure.suptitle(f"Some of the {train.rows:,} images to train, of {len(names)} classes")
for cell, image, label in zip(axes.flat, images, labels, strict=False):
    cell.imshow(image)
    cell.set_title(names[label])
    cell.axis("off")
plt.show()

# %% [markdown]
# ## Train
#
# The network is frozen, and a new layer on top learns your classes. `make_and_train` does not know how many
# devices there are: the strategy is its argument.

# %%
EPOCHS = 4


def make_and_train(strategy, verbose):
    """Returns (a trained model, its history)."""
    keras.utils.set_random_seed(1)
    with strategy.scope():
        network = make_network()
        network.set_weights(learned)
        network.trainable = False
        inputs = keras.Input((*size, 3))
        model = keras.Model(inputs, keras.layers.Dense(len(names), "softmax")(network(inputs, training=False)))
        model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = tfdist.fit(model, train, epochs=EPOCHS, validation_data=test, verbose=verbose)
    return model, history.history


model, history = make_and_train(one, verbose=2)

# %% [markdown]
# ## Look
#
# Does it beat the simplest rule, to say always the most frequent class? The mark: at least half of what that rule
# gets wrong has to be right.

# %%
labels = np.concatenate([labels for _, labels in test.dataset()])
most_frequent = np.bincount(labels).max() / len(labels)
accuracy, mark = history["val_accuracy"][-1], (1 + most_frequent) / 2

epochs = np.arange(1, EPOCHS + 1)
plt.figure(figsize=(7, 3.6), layout="constrained")
plt.plot(epochs, history["accuracy"], "o-", color="tab:blue", label="training images")
plt.plot(epochs, history["val_accuracy"], "o-", color="tab:orange", label="test images")
plt.axhline(mark, color="tab:green", linestyle="--", label="the mark")
plt.axhline(most_frequent, color="tab:gray", linestyle=":", label="always the most frequent class")
plt.title(f"Transfer learning from {train.rows:,} images")
plt.gca().set(xlabel="epoch", ylabel="accuracy", xticks=epochs, ylim=(0, 1.03))
plt.legend(loc="lower right", fontsize=8)
plt.show()

images, wanted = tfdist.data.load("images", split="test", shuffle=True, seed=1, **options).first_rows(10)
predicted = tfdist.predict(model, images.numpy(), verbose=0)
figure, axes = plt.subplots(2, 5, figsize=(11, 5.2), layout="constrained")
figure.suptitle("Test images, and how sure the model is; what is wrong is red")
for cell, image, label, row in zip(axes.flat, images, wanted, predicted, strict=False):
    cell.imshow(image)
    cell.set_title(f"{names[row.argmax()]}, {row.max():.0%}", color="black" if row.argmax() == label else "tab:red")
    cell.axis("off")
plt.show()
print(f"test accuracy {accuracy:.3f}; the mark {mark:.3f}; always the most frequent class {most_frequent:.3f}")
assert accuracy > mark

# %% [markdown]
# ## The same code on several devices
#
# Nothing changes but the strategy. The new layer starts from the same numbers and sees the same batches, so the
# weights that it learns are the same up to rounding, which is 10⁻⁷ in single precision.

# %%
on_several, history_of_several = make_and_train(several, verbose=0)
pairs = zip(model.get_weights(), on_several.get_weights(), strict=True)
difference = max(np.abs(alone - shared).max() for alone, shared in pairs)
replicas = several.num_replicas_in_sync
print(f"largest difference between the weights of {replicas} replicas and of one device: {difference:.1e}")
print(f"test accuracy {history_of_several['val_accuracy'][-1]:.3f} and {history['val_accuracy'][-1]:.3f}")
assert difference < 1e-3

# %% [markdown]
# ## What to try
#
# - Your own folder in `FOLDER`.
# - Train the whole network too: `network.trainable = True` after some epochs, compile with a learning rate of
#   1e-5, and fit again.
# - `run_dir="runs/mine"` in `fit`: checkpoints are saved, and the cell goes on from them.
# - Images that vary more: `train.map(tfdist.data.augment.on_images(tfdist.data.augment.flip()))`.
# - From the shell: `python -m tfdist.train --recipe=recipes/classification/transfer.py --data_dir=FOLDER`.

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
