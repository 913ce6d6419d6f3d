"""What callbacks of tfdist's own have in common."""

import keras


class StepCallback(keras.callbacks.Callback):
    """A Keras callback that counts the steps of the run.

    Attributes:
        steps_before: steps done before the epoch that runs.
        every_steps: None, or a number of steps after which a call must end, so that `on_step_end` sees that step.
        at_steps: single steps after which a call must end likewise.
    """

    every_steps: int | None = None
    at_steps: tuple[int, ...] = ()
    every_worker = True
    steps_before = 0
    _done = None

    def on_train_begin(self, logs=None):
        """Begins the count anew."""
        self._done = None

    def on_epoch_begin(self, epoch, logs=None):
        """Keeps the steps done before: not always so many an epoch, for data may end within one."""
        self.steps_before = epoch * (self.params["steps"] or 0) if self._done is None else self._done

    def go_on(self, steps_before_epoch):
        """Tells, after `on_train_begin`, how many steps an earlier process did before the epoch to begin with."""
        self._done = steps_before_epoch

    def on_train_batch_end(self, batch, logs=None):
        """Counts the steps, then calls `on_step_end`."""
        self._done = self.steps_before + batch + 1
        self.on_step_end(self._done, logs)

    def on_step_end(self, step, logs=None):
        """Called after each call of the training function, with the number of steps done since the run began."""
