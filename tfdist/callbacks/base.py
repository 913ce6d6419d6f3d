"""The base class of tfdist's own callbacks."""

import keras


class StepCallback(keras.callbacks.Callback):
    """A Keras callback that counts the steps of the run.

    Attributes:
        steps_before: steps done before the current epoch.
        every_steps: None, or a number of steps: a call ends at each multiple of it, so that `on_step_end` sees it.
        at_steps: single steps after which a call ends, for the same reason.
    """

    every_steps: int | None = None
    at_steps: tuple[int, ...] = ()
    every_worker = True
    steps_before = 0
    _done = None

    def on_train_begin(self, logs=None):
        """Resets the count."""
        self._done = None

    def on_epoch_begin(self, epoch, logs=None):
        """Keeps the steps done before the epoch; they are counted, because the data may end within an epoch."""
        self.steps_before = epoch * (self.params["steps"] or 0) if self._done is None else self._done

    def go_on(self, steps_before_epoch):
        """Sets, after `on_train_begin`, the steps that an earlier process did before the first epoch of this one."""
        self._done = steps_before_epoch

    def on_train_batch_end(self, batch, logs=None):
        """Counts the steps, then calls `on_step_end`."""
        self._done = self.steps_before + batch + 1
        self.on_step_end(self._done, logs)

    def on_step_end(self, step, logs=None):
        """Is called after each call of the training function, with the number of steps done since the run began."""
