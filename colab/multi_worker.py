# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Several workers, and one of them dies
#
# A *worker* is one process; usually each runs on a machine of its own. Here two workers run side by side on this
# machine: the same script, the same messages, no second machine. They train one model, one of them is killed, and
# the run goes on. At the end we compare three runs, weight by weight.
#
# **On Colab:** any runtime will do, *Runtime → Run all*. Two workers share one GPU, or the cores of the CPU.

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
# ## TF_CONFIG: who is who
#
# Every worker runs the same command. The variable TF_CONFIG tells them apart: `cluster` lists the address of each
# worker, the same for all; `task` says which of them this one is. Worker 0 is the *chief*, which writes the
# files. `tfdist.launch` makes a TF_CONFIG for each worker; here it only shows those of two machines.

# %%
run("tfdist.launch", "--hosts=machine-a,machine-b", "--tf_config_only")

# %% [markdown]
# `read_cluster` reads TF_CONFIG as `choose_strategy` does. A mistake gets a message that says what to do:

# %%
import json
import pathlib

import matplotlib.pyplot as plt
import numpy as np

import tfdist

addresses = ["machine-a:12345", "machine-b:12345"]
for index in (1, 2):
    config = json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})
    try:
        print(tfdist.read_cluster({"TF_CONFIG": config}))
    except ValueError as error:
        print(f"refused: {error}")

# %% [markdown]
# ## The script
#
# One script for one device, for two workers, and for a hundred. **Your own model and data** go into the middle.
# It trains in double precision, only because we want to compare numbers later.

# %%
# %%writefile mine.py
import os
import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf

import tfdist

tf.get_logger().setLevel("ERROR")
folder, epochs = pathlib.Path(sys.argv[1]), int(sys.argv[2])
strategy = tfdist.choose_strategy()  # all workers of TF_CONFIG; without it, this machine's device
keras.config.set_floatx("float64")
keras.utils.set_random_seed(0)  # the same first weights on every worker

with strategy.scope():
    model = tfdist.models.build("cnn", classes=10, input_shape=(8, 8, 1), batch_norm=True)
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
train = tfdist.data.load("digits", split="train", global_batch=64, seed=0)
test = tfdist.data.load("digits", split="test", global_batch=64)

tfdist.fit(
    model,
    train,
    epochs=epochs,
    validation_data=test,
    verbose=2,
    run_dir=folder,  # checkpoints, metrics and the model; a new start goes on from here
    checkpoint_every_steps=10,
    exchange="all_reduce",  # not "auto", which measures, and may choose another way in another run
)

weights = model.get_weights()
cluster = tfdist.read_cluster(os.environ)
if cluster is None or cluster.is_chief:
    np.savez(folder / "weights.npz", *weights)

# %% [markdown]
# ## Two workers
#
# One command starts both, gives each its TF_CONFIG, and shows the lines of the chief while they come.
# `batch_size` and `global_batch` count the rows of all workers, so each takes half of every batch. On two
# machines the command is the same, with `--hosts=machine-a,machine-b` and a `run_dir` that both see.

# %%
import tempfile
import time

RUNS = pathlib.Path(tempfile.mkdtemp())
EPOCHS = 3 if QUICK else 6
started = {"two workers": time.time()}
run("tfdist.launch", "--workers=2", "--", "mine.py", str(RUNS / "two workers"), str(EPOCHS))

# %% [markdown]
# ## One of them dies
#
# `--chaos` kills worker 1 by SIGKILL after step 35, as if its machine had lost power. Without `--max_restarts`
# the launcher would name the cause and end the other worker. With it, it starts both again, and they go on from
# the newest checkpoint, in the middle of the epoch. Read the lines: the root cause, the consequences, the
# restart.

# %%
started["one killed"] = time.time()
restart = ("--max_restarts=1", "--backoff_seconds=0", "--chaos=kill:worker=1,step=35")
run("tfdist.launch", "--workers=2", *restart, "--", "mine.py", str(RUNS / "one killed"), str(EPOCHS))

# %% [markdown]
# ## One device
#
# The same script without TF_CONFIG, for comparison.

# %%
started["one device"] = time.time()
subprocess.run([sys.executable, "mine.py", str(RUNS / "one device"), str(EPOCHS)], check=True, capture_output=True)
weights = {name: np.load(RUNS / name / "weights.npz") for name in started}


def distance(name, other):
    """Returns the largest difference between the weights of two runs."""
    return max(np.abs(weights[name][key] - weights[other][key]).max() for key in weights[name].files)


killed, device = distance("one killed", "two workers"), distance("two workers", "one device")
print(f"largest difference between the weights of the killed run and of the undisturbed one: {killed:.1e}")
print(f"largest difference between the weights of two workers and of one device: {device:.1e}")
assert killed == 0
assert device < 1e-9

# %% [markdown]
# ## Look
#
# Left: the three runs have the same losses; their marks lie in one another. Right: what the kill cost.


# %%
def read_epochs(name):
    """Returns the lines of a run's epochs; other lines are of its start, its checkpoints and its end."""
    every = map(json.loads, (RUNS / name / "metrics.jsonl").read_text().splitlines())
    return [line for line in every if "epoch" in line]


lines = {name: read_epochs(name) for name in started}
looks = {"two workers": ("o", 14, "#9ecae1"), "one killed": ("s", 8, "tab:orange"), "one device": (".", 6, "black")}
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
for name, (marker, size, colour) in looks.items():
    epochs = [line["epoch"] for line in lines[name]]
    left.plot(epochs, [line["val_loss"] for line in lines[name]], marker, markersize=size, color=colour, label=name)
    seconds = [0, *(line["time"] - started[name] for line in lines[name])]
    right.plot(seconds, [0, *epochs], marker=marker, markersize=6, color=colour, label=name)
left.set(
    title="The same losses in all three runs", xlabel="epoch", ylabel="loss of the test rows", xticks=epochs, ylim=0
)
right.set(
    title="The killed run ends later, and ends the same",
    xlabel="seconds since its start",
    ylabel="epochs done",
    yticks=[0, *epochs],
)
for axes in (left, right):
    axes.legend(fontsize=8)
plt.show()

accuracy = lines["one killed"][-1]["val_accuracy"]
print(f"test accuracy of the killed run {accuracy:.3f}; always the same digit would reach 0.10")
assert accuracy > 0.9

# %% [markdown]
# ## What to try
#
# - Other faults: `--chaos=hang:worker=1,step=35` with `--hang_seconds=20`: the launcher names the stuck worker.
# - `--workers=3`, or `--min_workers=1` to go on with those that are left: the weights do not depend on the number
#   of workers.
# - `--tee=all` shows the lines of every worker, not of the chief alone.
# - On machines of a cluster: `srun python mine.py …` needs no TF_CONFIG; with ssh, use `--hosts`.

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
