"""A profile of some steps, for TensorBoard."""

import tensorflow as tf

from tfdist.callbacks.base import StepCallback
from tfdist.process.log import say


class Profile(StepCallback):
    """Lets TensorFlow write what each operation of some steps took, to a folder that TensorBoard reads.

    A run that begins behind the first of them profiles the rest; one that ends before the last, what there was. All
    workers have it, for their calls must end alike; the chief alone writes.

    Args:
        folder: where to write, below it `plugins/profile/<time>/`; None to write nothing.
        steps: (first, last): the steps after `first`, up to and with `last`, counted from the run's beginning.
    """

    def __init__(self, folder, steps):
        super().__init__()
        self._folder = folder
        self._first, self._last = steps
        self._runs = False
        self.at_steps = steps

    def on_train_batch_begin(self, batch, logs=None):
        """Starts before the first of the steps."""
        if self._folder and not self._runs and self._first <= self.steps_before + batch < self._last:
            self._runs = True
            tf.profiler.experimental.start(str(self._folder))

    def on_step_end(self, step, logs=None):
        """Stops behind the last."""
        if step >= self._last:
            self._stop()

    def on_train_end(self, logs=None):
        """Stops where the run ends before."""
        self._stop()

    def _stop(self):
        if self._runs:
            self._runs = False
            tf.profiler.experimental.stop()
            say(f"profile of the steps to {self._last}: tensorboard --logdir={self._folder} (with the profile plugin).")
