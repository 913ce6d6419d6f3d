"""A profile of some steps, for TensorBoard."""

import tensorflow as tf

from tfdist.callbacks.base import Callback
from tfdist.process.log import say


class Profile(Callback):
    """Writes TensorFlow's profile of some steps to a folder that TensorBoard reads.

    A run that begins after the first of these steps profiles the rest, and one that ends before the last profiles those
    until its end. All workers must have the callback, because their calls must end at the same steps; only the chief
    writes.

    Args:
        folder: where to write `plugins/profile/<time>/`; None to write nothing.
        steps: (first, last): the steps after `first` up to and including `last`, counted from the run's beginning.

    Example:
        ```python
        import tfdist

        # Given to `tfdist.fit(…, callbacks=[profile])`.
        profile = tfdist.callbacks.Profile("tensorboard", (100, 110))
        ```
    """

    def __init__(self, folder, steps):
        super().__init__()
        self._folder = folder
        self._first, self._last = steps
        self._is_running = False
        self.at_steps = steps

    def on_train_batch_begin(self, batch, logs=None):
        """Starts the profiler before the first of the steps."""
        if self._folder and not self._is_running and self._first <= self.steps_before + batch < self._last:
            self._is_running = True
            tf.profiler.experimental.start(str(self._folder))

    def on_step_end(self, step, logs=None):
        """Stops the profiler after the last of the steps."""
        if step >= self._last:
            self._stop()

    def on_train_end(self, logs=None):
        """Stops the profiler if the run ends before the last of the steps."""
        self._stop()

    def _stop(self):
        if self._is_running:
            self._is_running = False
            tf.profiler.experimental.stop()
            say(
                f"The profile of the steps to {self._last} is written. Run: tensorboard --logdir={self._folder} (with "
                "the profile plugin)."
            )
