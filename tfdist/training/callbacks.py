"""Callbacks of tfdist's own: Keras callbacks that also know the step of the run."""

import contextlib
import dataclasses
import signal
import threading

import keras

from tfdist.coordination import make_broadcast
from tfdist.internals import models
from tfdist.log import say
from tfdist.strategy import is_chief, worker_count

# They decide by the logs, which are the same on every worker, and some of them change weights: all workers run them.
_EVERY_WORKER = (
    keras.callbacks.History,
    keras.callbacks.EarlyStopping,
    keras.callbacks.ReduceLROnPlateau,
    keras.callbacks.LearningRateScheduler,
    keras.callbacks.TerminateOnNaN,
    keras.callbacks.SwapEMAWeights,
)
# They write, and there must be one of what they write.
_CHIEF_ALONE = (
    keras.callbacks.ModelCheckpoint,
    keras.callbacks.CSVLogger,
    keras.callbacks.TensorBoard,
    keras.callbacks.RemoteMonitor,
    keras.callbacks.ProgbarLogger,
)


def for_this_worker(callbacks, strategy):
    """Chooses the callbacks that run on this worker, and adds the one that lets the chief decide for all.

    A callback that tfdist does not know runs on the chief alone, unless it has an attribute `every_worker = True`.

    Args:
        callbacks: the user's Keras callbacks.
        strategy: the `tf.distribute.Strategy`.

    Returns:
        The callbacks to run here.
    """
    if worker_count(strategy) == 1:
        return list(callbacks)
    chief = is_chief(strategy)
    chosen = []
    for callback in callbacks:
        if isinstance(callback, _EVERY_WORKER) or getattr(callback, "every_worker", False):
            chosen.append(callback)
        elif chief:
            chosen.append(callback)
            if not isinstance(callback, (*_CHIEF_ALONE, keras.callbacks.BackupAndRestore)):
                say(
                    f"callback {type(callback).__name__} runs on the chief alone. If it is to run on every worker, "
                    "give it an attribute every_worker = True."
                )
        elif isinstance(callback, keras.callbacks.BackupAndRestore):
            chosen.append(_RestoreOnly(callback))
    return [*chosen, ChiefDecides(strategy)]


def make_callback_list(model, callbacks, verbose, *, epochs, steps, more=(), history=False):
    """Gives the callbacks of a run as Keras makes them: those of this worker, a progress bar on the chief.

    Args:
        model: the `keras.Model`.
        callbacks, verbose: as in Keras.
        epochs, steps: for the progress bar; steps in an epoch, or None.
        more: callbacks behind the user's.
        history: whether a `keras.callbacks.History` is among them.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        for callback in more:
            callbacks.append(callback)
        return callbacks
    verbose = (1 if verbose == "auto" else verbose) if is_chief(model.distribute_strategy) else 0
    return keras.callbacks.CallbackList(
        for_this_worker([*keras.tree.flatten(callbacks or []), *more], model.distribute_strategy),
        add_history=history,
        add_progbar=verbose != 0,
        model=model,
        verbose=verbose,
        epochs=epochs,
        steps=steps,
    )


class _RestoreOnly(keras.callbacks.Callback):
    """`BackupAndRestore` on a worker that is not the chief: reads the backup, and neither writes nor deletes it."""

    def __init__(self, callback):
        super().__init__()
        self._callback = callback

    def set_model(self, model):
        super().set_model(model)
        self._callback.set_model(model)

    def on_train_begin(self, logs=None):
        self._callback.on_train_begin(logs)


class ChiefDecides(keras.callbacks.Callback):
    """Gives every worker the chief's `stop_training` and learning rate, so that all stop and change on the same step.

    It comes last among the callbacks, when the others have decided.
    """

    every_worker = True

    def __init__(self, strategy):
        super().__init__()
        self._broadcast = make_broadcast(strategy)

    def on_train_begin(self, logs=None):
        """Settles what callbacks have set before the first step."""
        self._settle()

    def on_epoch_begin(self, epoch, logs=None):
        """Settles the epoch's learning rate."""
        self._settle()

    def on_train_batch_end(self, batch, logs=None):
        """Settles after each call."""
        self._settle()

    def on_epoch_end(self, epoch, logs=None):
        """Settles after validation."""
        self._settle()

    def _settle(self):
        rate = models.settable_learning_rate(self.model)
        stop, chiefs_rate = self._broadcast([float(bool(self.model.stop_training)), 0.0 if rate is None else rate])
        self.model.stop_training = bool(stop)
        if rate is not None and rate != chiefs_rate:
            self.model.optimizer.learning_rate = chiefs_rate


class StepCallback(keras.callbacks.Callback):
    """A Keras callback that counts the steps of the run.

    Attributes:
        every_steps: None, or a number of steps after which a call must end, so that `on_step_end` sees that step.
    """

    every_steps: int | None = None
    every_worker = True
    _before = 0
    _done = None

    def on_train_begin(self, logs=None):
        """Begins the count anew."""
        self._done = None

    def on_epoch_begin(self, epoch, logs=None):
        """Keeps the steps done before: not always so many an epoch, for data may end within one."""
        self._before = epoch * (self.params["steps"] or 0) if self._done is None else self._done

    def go_on(self, steps_before_epoch):
        """Tells, after `on_train_begin`, how many steps an earlier process did before the epoch to begin with."""
        self._done = steps_before_epoch

    def on_train_batch_end(self, batch, logs=None):
        """Counts the steps, then calls `on_step_end`."""
        self._done = self._before + batch + 1
        self.on_step_end(self._done, logs)

    def on_step_end(self, step, logs=None):
        """Called after each call of the training function, with the number of steps done since the run began."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a run goes on.

    Attributes:
        step: steps done since it began.
        epoch, step_in_epoch: the next step, counted from the epoch's beginning.
    """

    step: int
    epoch: int
    step_in_epoch: int


class Checkpointer(StepCallback):
    """Says when to save: every so many steps, at the end of each epoch, and before an interrupted run ends.

    The last step of an epoch is saved once the other callbacks have made of it what they make of an epoch: a run that
    goes on does not come back to that.

    Args:
        save: a function (`Place`, logs of an epoch or None, together=whether all workers save now).
        every_steps: steps between checkpoints; None for the ends of epochs alone.
        interrupted: a function that says whether the user has asked to stop.
        agreed: whether all workers hear of that after the same step.
    """

    def __init__(self, save, *, every_steps=None, interrupted=lambda: False, agreed=True):
        super().__init__()
        self.every_steps = every_steps
        self._save_place = save
        self._interrupted = interrupted
        self._agreed = agreed
        self._step = self._saved = self._span = None
        self._partial = False

    def begin_epoch(self, span, *, partial):
        """Tells which steps of an epoch are to come.

        Args:
            span: a `plan.Span`.
            partial: the run ends with it, and in the middle of the epoch.
        """
        self._span = span
        self._partial = partial

    def on_step_end(self, step, logs=None):
        """Saves where it is time; on an interrupt saves and raises KeyboardInterrupt."""
        self._step = step
        in_epoch = step - self._before
        if in_epoch >= self._span.last and not self._partial:
            return
        stop = self._interrupted()
        if stop or in_epoch >= self._span.last or (self.every_steps and step % self.every_steps == 0):
            self._save(Place(step, self._span.epoch, in_epoch), together=self._agreed or not stop)
        self._leave_if(stop)

    def on_epoch_end(self, epoch, logs=None):
        """Saves; on an interrupt raises KeyboardInterrupt."""
        if self._step is None:
            return
        if not self._partial:
            self._save(Place(self._step, epoch + 1, 0), logs)
        self._leave_if(self._interrupted())

    def _save(self, place, logs=None, *, together=True):
        if place != self._saved:
            self._save_place(place, logs, together=together)
            self._saved = place

    def _leave_if(self, stop):
        if stop:
            raise KeyboardInterrupt(f"stopped after step {self._step}")


@contextlib.contextmanager
def first_interrupt_waits():
    """Lets the first Ctrl-C wait for the end of the running call; a second one stops at once.

    Between two lines of Python nobody could tell whether the call's steps were done: a checkpoint would be wrong.

    Yields:
        A function that says whether Ctrl-C was pressed.
    """
    pressed = threading.Event()

    def handle(signum, frame):
        if pressed.is_set():
            signal.default_int_handler(signum, frame)
        pressed.set()
        say("stopping after this call; press Ctrl-C again to stop at once.")

    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return
    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, previous)
