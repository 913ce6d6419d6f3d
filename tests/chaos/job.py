"""A user's training script, run by `tfdist.launch` with injected faults; its model counts how often each row was used.

The counts are a part of the model: a second output takes one weight a row, and its loss, a sum over rows whose gradient
is -1 wherever a row is used, makes SGD with a learning rate of 1 add 1 to that weight. So they are saved and restored
with the rest, and summed over workers as gradients are: of a step that is lost or done twice, they tell.

Usage: python job.py --run_dir=FOLDER --epochs=N [--dtype=float64] [--pause=SECONDS] [--times=FOLDER]
"""

import argparse
import json
import os
import pathlib
import time

import keras
import numpy as np

import tfdist
from tfdist.checkpoints import checkpoint
from tfdist.data.sources.arrays import from_arrays
from tfdist.models.dropout import RowDropout
from tfdist.strategy.workers import Workers

# Six steps an epoch, the last of ten rows: three calls of two steps, a checkpoint after each.
ROWS, BATCH, WIDTH, CALL = 90, 16, 4, 2


class Pause(keras.callbacks.Callback):
    """Makes a run of minutes out of steps that last milliseconds."""

    every_worker = True

    def __init__(self, seconds):
        super().__init__()
        self._seconds = seconds

    def on_train_batch_end(self, batch, logs=None):
        time.sleep(self._seconds)


class Times(keras.callbacks.Callback):
    """Writes down when each call of steps was over, so that the start of an attempt can be told from outside."""

    every_worker = True

    def __init__(self, folder):
        super().__init__()
        self._path = folder / f"attempt-{attempt()}"

    def on_train_batch_end(self, batch, logs=None):
        with self._path.open("a") as file:
            file.write(f"{time.time()}\n")


def attempt():
    """How many times the workers were started before."""
    return int(os.environ.get("TFDIST_ATTEMPT", "0"))


def make_model():
    x, row = keras.Input((WIDTH,), name="x"), keras.Input((ROWS,), name="row")
    hidden = keras.layers.BatchNormalization()(keras.layers.Dense(8, "tanh")(x))
    answer = keras.layers.Dense(1, name="answer")(RowDropout(0.3, seed=3)(hidden))
    uses = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", name="uses")(row)
    model = keras.Model({"x": x, "row": row}, {"answer": answer, "uses": uses})
    model.compile(
        keras.optimizers.SGD(1.0),
        # The target of "uses" is beyond reach: its gradient is -1 for ever.
        loss={"answer": "mse", "uses": keras.losses.MeanAbsoluteError(reduction="sum")},
        loss_weights={"answer": 0.05, "uses": 1.0},
        steps_per_execution=CALL,
    )
    return model


def make_source(rows, dtype, **order):
    x = np.random.RandomState(rows).randn(rows, WIDTH).astype(dtype)
    who = np.eye(ROWS, dtype=dtype)[:rows]
    y = {"answer": np.sin(x.sum(1, keepdims=True)), "uses": np.full((rows, 1), 1e6, dtype)}
    return from_arrays({"x": x, "row": who}, y, global_batch=BATCH, **order)


def note_process(run_dir):
    """Writes down who this process is, and who started it: (process id, its start in ticks) never comes twice."""
    run_dir.mkdir(parents=True, exist_ok=True)
    config = json.loads(os.environ.get("TF_CONFIG", "{}"))
    processes = [(pid, start_of(pid)) for pid in (os.getpid(), os.getppid())]
    rank = config["task"]["index"] if config else 0
    line = {"rank": rank, "attempt": attempt(), "processes": processes}
    with (run_dir / "processes.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def start_of(pid):
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--run_dir", type=pathlib.Path, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--times", type=pathlib.Path)
    flags = parser.parse_args()
    note_process(flags.run_dir)
    keras.config.set_floatx(flags.dtype)
    strategy = tfdist.choose_strategy()
    keras.utils.set_random_seed(7)
    with strategy.scope():
        model = make_model()
    tfdist.fit(
        model,
        make_source(ROWS, flags.dtype, seed=5),
        epochs=flags.epochs,
        verbose=0,
        callbacks=[Pause(flags.pause), *([Times(flags.times)] if flags.times else [])],
        validation_data=make_source(60, flags.dtype, shuffle=False),
        run_dir=flags.run_dir,
        checkpoint_every_steps=CALL,
    )
    if Workers.of(strategy).is_chief:
        write_results(model, flags.run_dir)


def write_results(model, run_dir):
    weights = {str(index): np.asarray(weight) for index, weight in enumerate(model.weights)}
    np.savez(run_dir / "weights.npz", **weights)
    uses = np.asarray(model.get_layer("uses").kernel)[:, 0].tolist()
    summary = {"weights_sha256": checkpoint.weights_sha256(model), "uses": uses}
    (run_dir / "summary.json").write_text(json.dumps(summary))


if __name__ == "__main__":
    main()
