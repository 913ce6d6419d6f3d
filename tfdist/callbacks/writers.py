"""Callbacks that write the numbers of a run to files, on the chief alone."""

import json
import os
import pathlib
import socket
import time

import numpy as np
import tensorflow as tf

from tfdist.callbacks.base import Callback
from tfdist.internals.access.rates import current_learning_rate
from tfdist.run import rundir
from tfdist.strategy.workers import Workers


class ChiefWriter(Callback):
    """A callback that every worker has, because its calls must end at the same steps; only the chief writes."""

    _optimizer = None

    @property
    def writes(self):
        """Whether this worker writes."""
        strategy = getattr(self.model, "distribute_strategy", None)
        return strategy is None or Workers.of(strategy).is_chief

    def rate(self):
        """Returns the learning rate of the next step as an entry of logs; nothing where there is none."""
        rate = current_learning_rate(self._optimizer or getattr(self.model, "optimizer", None))
        return {} if rate is None else {"learning_rate": rate}

    def is_due(self, step):
        """Returns whether `step` is a multiple of `every_steps`, on the worker that writes."""
        return bool(self.every_steps) and step % self.every_steps == 0 and self.writes


class MetricsFile(ChiefWriter):
    """Appends one JSON object per epoch to a file, one per checkpoint, and one each `every_steps` steps.

    Args:
        path: the file, `RunDir.metrics`.
        more: a function () → further entries of an epoch's line, because the logs may hold only scalars.
        every_steps: None, or the number of steps from one line within an epoch to the next.
        more_of_step: a function () → further entries of such a line.
        optimizer: the Keras optimizer whose learning rate is in the lines; None for the model's.
        clock: a function () → Unix seconds; for tests.

    Attributes:
        step: the steps done since the run began.

    Example:
        ```python
        import pathlib

        import tfdist

        # Given to `tfdist.fit(…, callbacks=[metrics])`, or to `tfdist.open_run`.
        metrics = tfdist.callbacks.MetricsFile(pathlib.Path("metrics.jsonl"), every_steps=100)
        ```
    """

    def __init__(self, path, more=dict, *, every_steps=None, more_of_step=dict, optimizer=None, clock=time.time):
        super().__init__()
        self._path = pathlib.Path(path)
        self._more = more
        self._more_of_step = more_of_step
        self._optimizer = optimizer
        self._clock = clock
        self.every_steps = every_steps
        self.step = 0

    def write_event(self, event, **entries):
        """Appends a line about something that happened to the run."""
        if self.writes:
            rundir.append_line(self._path, {"event": event, "time": self._now(), **entries})

    def on_epoch_begin(self, epoch, logs=None):
        """Counts from the epoch's first step."""
        self.step = max(self.step, self.steps_before)

    def on_step_end(self, step, logs=None):
        """Writes the line of a step, if it is time."""
        self.step = step
        if self.is_due(step):
            self._write({}, logs, self._more_of_step())

    def on_epoch_end(self, epoch, logs=None):
        """Writes the epoch's line."""
        if self.writes:
            self._write({"epoch": epoch + 1}, logs, self._more())

    def on_checkpoint(self, step, seconds):
        """Writes the line of a checkpoint."""
        self.write_event("checkpoint", step=step, seconds=round(seconds, 4))

    def _write(self, first, logs, more):
        # A metric of the user may have one of these names.
        place = {**first, "step": self.step, "time": self._now()}
        rundir.append_line(self._path, {**place, **self.rate(), **plain(logs), **more, **place})

    def _now(self):
        return round(self._clock(), 3)


class TensorBoardScalars(ChiefWriter):
    """Writes the logs of each epoch for TensorBoard, by the names and in the folders of `keras.callbacks.TensorBoard`.

    Args:
        folder: the folder that TensorBoard reads, `RunDir.tensorboard`.
        every_steps: None, or the number of steps from one entry within an epoch, such as "batch_loss", to the next.
        optimizer: the Keras optimizer whose learning rate is written; None for the model's.

    Example:
        ```python
        import tfdist

        # Given to `tfdist.fit(…, callbacks=[scalars])`, or to `tfdist.open_run`.
        scalars = tfdist.callbacks.TensorBoardScalars("tensorboard", every_steps=100)
        ```
    """

    def __init__(self, folder, *, every_steps=None, optimizer=None):
        super().__init__()
        self._optimizer = optimizer
        self._folder = pathlib.Path(folder)
        self._writers = {}
        self.every_steps = every_steps

    def on_step_end(self, step, logs=None):
        """Writes the numbers of a step, if it is time."""
        if self.is_due(step):
            self._write("train", {f"batch_{name}": value for name, value in plain(logs).items()}, step)

    def on_epoch_end(self, epoch, logs=None):
        """Writes the numbers of the epoch."""
        if not self.writes:
            return
        logs = plain(logs)
        validated = {name.removeprefix("val_"): value for name, value in logs.items() if name.startswith("val_")}
        trained = {name: value for name, value in logs.items() if not name.startswith("val_")}
        trained = {**self.rate(), **trained}
        for part, numbers in (("train", trained), ("validation", validated)):
            if numbers:
                self._write(part, {f"epoch_{name}": value for name, value in numbers.items()}, epoch)

    def on_train_end(self, logs=None):
        """Closes the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _write(self, part, numbers, step):
        if part not in self._writers:
            self._writers[part] = _open_events(self._folder / part)
        scalars = {name: value for name, value in numbers.items() if isinstance(value, int | float)}
        summary = tf.compat.v1.Summary(value=list(map(_scalar, scalars, scalars.values())))
        event = tf.compat.v1.Event(wall_time=time.time(), step=step, summary=summary)
        self._writers[part].write(event.SerializeToString())
        self._writers[part].flush()


def _open_events(folder):
    """Opens a new file for TensorBoard."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}.v2"
    writer = tf.io.TFRecordWriter(str(folder / name))
    writer.write(tf.compat.v1.Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
    return writer


def _scalar(name, value):
    """Returns what `tf.summary.scalar` writes; its operations took 13 ms an epoch, this takes 1.5."""
    metadata = tf.compat.v1.SummaryMetadata()
    metadata.plugin_data.plugin_name = "scalars"
    tensor = tf.make_tensor_proto(value, tf.float32, shape=[])
    return tf.compat.v1.Summary.Value(tag=name, metadata=metadata, tensor=tensor)


def plain(logs):
    """Returns logs as JSON types: numbers, lists of them, and the text of all else, which a user's callback may add."""
    return {str(name): _plain(value) for name, value in (logs or {}).items()}


def _plain(value):
    try:
        value = np.asarray(value).tolist()
        json.dumps(value)
    # NumPy and JSON refuse a value by either.
    except (TypeError, ValueError):
        return str(value)
    return value
