"""Callbacks that print the numbers of a run, for files and pipes, where a progress bar would be noise."""

import time

from tfdist.callbacks.base import Callback
from tfdist.callbacks.writers import ChiefWriter, plain
from tfdist.process.log import show


class EpochLines(Callback):
    """Prints one line per epoch.

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
        show(format_logs([f"epoch {epoch + 1}/{self.params['epochs']}"], logs or {}))


class ProgressLines(ChiefWriter):
    """Prints a line within a long epoch: when a call ends after so many seconds, and each `every_steps` steps.

    Args:
        every_seconds: the seconds from one line to the next; None for none.
        every_steps: the steps from one line to the next; None for none.
        more: a function () → further numbers of the line.
        clock: a function () → seconds; for tests.

    Example:
        ```python
        import tfdist

        # Given to `tfdist.fit(…, verbose=0, callbacks=[lines])`.
        lines = tfdist.callbacks.ProgressLines(every_seconds=60)
        ```
    """

    def __init__(self, every_seconds=10.0, *, every_steps=None, more=dict, clock=time.monotonic):
        super().__init__()
        self._every_seconds = every_seconds
        self.every_steps = every_steps
        self._more = more
        self._clock = clock
        self._epoch = 0
        self._last = None

    def on_epoch_begin(self, epoch, logs=None):
        """Begins to wait for the first line of the epoch."""
        self._epoch, self._last = epoch, self._clock()

    def on_step_end(self, step, logs=None):
        """Prints the line, if it is time."""
        in_epoch, steps, now = step - self.steps_before, self.params.get("steps"), self._clock()
        is_late = self._every_seconds is not None and now - self._last >= self._every_seconds
        # The epoch's own line follows its last step.
        if in_epoch == steps or not self.writes or not (is_late or self.is_due(step)):
            return
        self._last = now
        place = f"step {in_epoch}/{steps}" if steps else f"step {in_epoch}"
        show(format_logs([f"epoch {self._epoch + 1}/{self.params['epochs']}", place], {**(logs or {}), **self._more()}))


def progress_lines(every_steps):
    """Returns the callbacks that print a line each `every_steps` steps: a list of one, or of none for None."""
    return [] if every_steps is None else [ProgressLines(None, every_steps=every_steps)]


def format_logs(parts, logs):
    """Returns a line of logs, such as `epoch 2/10  loss 0.1234  accuracy 0.9512  8123 examples/s`.

    Args:
        parts: what the line begins with.
        logs: name → number; what is no single number is left out.
    """
    parts = list(parts)
    numbers = {name: value for name, value in plain(logs).items() if isinstance(value, int | float)}
    for name in sorted(numbers, key=_reading_order):
        if name == "examples_per_second":
            parts.append(f"{numbers[name]:.0f} examples/s")
        else:
            parts.append(f"{name} {numbers[name]:.4g}")
    return "  ".join(parts)


def _reading_order(name):
    return name == "examples_per_second", name.startswith("val_"), "loss" not in name, name
