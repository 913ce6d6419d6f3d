"""Callbacks that write the numbers of an epoch: a line on the screen, a line in a file."""

from tfdist.callbacks.base import Callback
from tfdist.process.log import show
from tfdist.run import rundir


class MetricsFile(Callback):
    """Appends one JSON object per epoch to a file.

    Args:
        path: the file, `RunDir.metrics`.
        more: a function that returns further entries of the line, because the logs may hold only scalars.

    Example:
        ```python
        import pathlib

        import tfdist

        # Given to `tfdist.fit(…, callbacks=[metrics])`, or to `tfdist.open_run`.
        metrics = tfdist.callbacks.MetricsFile(pathlib.Path("metrics.jsonl"))
        ```
    """

    every_worker = False

    def __init__(self, path, more=dict):
        super().__init__()
        self._path = path
        self._more = more

    def on_epoch_end(self, epoch, logs=None):
        """Writes the line."""
        rundir.append_line(self._path, {"epoch": epoch + 1, **(logs or {}), **self._more()})


class EpochLines(Callback):
    """Prints one line per epoch, for files and pipes, where a progress bar would be noise.

    Example:
        ```python
        import tfdist

        # Given to `tfdist.fit(…, verbose=0, callbacks=[lines])`.
        lines = tfdist.callbacks.EpochLines()
        ```
    """

    every_worker = False

    def on_epoch_end(self, epoch, logs=None):
        """Prints the line."""
        show(format_epoch(epoch + 1, self.params["epochs"], logs or {}))


def format_epoch(epoch, epochs, logs):
    """Returns the line of an epoch, such as `epoch 2/10  loss 0.1234  accuracy 0.9512  8123 examples/s`."""
    parts = [f"epoch {epoch}/{epochs}"]
    for name in sorted(logs, key=_reading_order):
        if name == "examples_per_second":
            parts.append(f"{logs[name]:.0f} examples/s")
        else:
            parts.append(f"{name} {logs[name]:.4g}")
    return "  ".join(parts)


def _reading_order(name):
    return name == "examples_per_second", name.startswith("val_"), "loss" not in name, name
