"""The base class of callbacks that see the steps of a run, keep a state in its checkpoints, or measure."""

from collections.abc import Iterable, Mapping
from typing import Any

import keras


class Callback(keras.callbacks.Callback):
    """A Keras callback with tfdist's further hooks; any Keras callback works without them.

    Attributes:
        every_worker: whether every worker runs it, or the chief alone. What writes belongs on the chief, and what
            changes weights or ends calls belongs on every worker. A Keras callback may have this attribute too.
        every_steps: None, or a number of steps: a call ends at each multiple of it, so that `on_step_end` sees it.
        at_steps: single steps after which a call ends, for the same reason.
        steps_before: the steps of the run that were done before the current epoch; the loop sets it.

    Example:
        ```python
        import tfdist

        class Snapshot(tfdist.callbacks.Callback):
            every_steps = 100

            def on_step_end(self, step, logs=None):
                if step % self.every_steps == 0:
                    print(f"step {step}: {logs}")
        ```
    """

    every_worker: bool = True
    every_steps: int | None = None
    at_steps: Iterable[int] = ()
    steps_before: int = 0

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Calls `on_step_end`."""
        self.on_step_end(self.steps_before + batch + 1, logs)

    def on_step_end(self, step: int, logs: Mapping[str, Any] | None = None) -> None:
        """Is called after each call of the training function.

        Args:
            step: the steps done since the run began; a call may have many steps, see `every_steps`.
            logs: the metrics since the epoch began.
        """

    def on_train_measured(self, steps: int, measured: Any) -> None:
        """Is called after each call of the training function, before `on_train_batch_end`.

        The step has a clock in it only if a callback overrides this method.

        Args:
            steps: the steps of the call.
            measured: where the time of the call went, with `sums` and `sparse`.
        """

    def on_checkpoint(self, step: int, seconds: float) -> None:
        """Is called on the chief when a checkpoint is complete.

        Args:
            step: the steps done since the run began.
            seconds: how long the training waited for it.
        """

    def get_state(self) -> Mapping[str, Any] | None:
        """Returns what a checkpoint is to keep: numbers, strings, lists, dicts and NumPy arrays; None for nothing."""
        return None

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `get_state` returned, in a run that resumes; it is called after `on_train_begin`."""


def measurement_hooks(callbacks):
    """Returns the `on_train_measured` of each callback that overrides it."""
    base = Callback.on_train_measured
    ours = [item for item in callbacks if isinstance(item, Callback)]
    return [item.on_train_measured for item in ours if type(item).on_train_measured is not base]
