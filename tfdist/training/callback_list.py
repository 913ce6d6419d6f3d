"""Chooses which callbacks run on which worker."""

import keras

from tfdist.process.log import say
from tfdist.strategy.workers import Workers

# These decide from the logs, which are equal on all workers, and some change weights: every worker runs them.
_EVERY_WORKER = (
    keras.callbacks.History,
    keras.callbacks.EarlyStopping,
    keras.callbacks.ReduceLROnPlateau,
    keras.callbacks.LearningRateScheduler,
    keras.callbacks.TerminateOnNaN,
    keras.callbacks.SwapEMAWeights,
)
# These write, and what they write must exist only once.
_CHIEF_ONLY = (
    keras.callbacks.ModelCheckpoint,
    keras.callbacks.CSVLogger,
    keras.callbacks.TensorBoard,
    keras.callbacks.RemoteMonitor,
    keras.callbacks.ProgbarLogger,
)
# Trackers of experiments write too. Their classes are known by their packages, which are no dependency.
_TRACKERS = {"aim", "comet_ml", "dvclive", "mlflow", "neptune", "neptune_tensorflow_keras", "wandb"}


def for_this_worker(callbacks, workers):
    """Chooses the callbacks that run on this worker.

    A callback that tfdist does not know runs only on the chief, unless it has an attribute `every_worker = True`. An
    attribute `every_worker = False` confirms that, and no line is logged.

    Args:
        callbacks: the user's Keras callbacks.
        workers: the `Workers`.

    Returns:
        The callbacks to run here.
    """
    if workers.count == 1:
        return list(callbacks)
    chosen = []
    for callback in callbacks:
        if runs_on_every_worker(callback):
            chosen.append(callback)
        elif workers.is_chief:
            chosen.append(callback)
            known = isinstance(callback, (*_CHIEF_ONLY, keras.callbacks.BackupAndRestore))
            if not known and not _is_tracker(callback) and not hasattr(callback, "every_worker"):
                say(
                    f"callback {type(callback).__name__} runs only on the chief. To run it on every worker, "
                    "give it an attribute every_worker = True."
                )
        elif isinstance(callback, keras.callbacks.BackupAndRestore):
            chosen.append(_RestoreOnly(callback))
    return chosen


def runs_on_every_worker(callback):
    """Returns whether a callback runs on every worker; the others run on the chief alone."""
    return isinstance(callback, (*_EVERY_WORKER, _RestoreOnly)) or getattr(callback, "every_worker", False)


def _is_tracker(callback):
    """Returns whether a callback, or a class that it inherits from, belongs to a tracker of experiments."""
    return any(kind.__module__.partition(".")[0] in _TRACKERS for kind in type(callback).__mro__)


def make_callback_list(model, callbacks, verbose, *, epochs, steps, more=(), history=False):
    """Returns the Keras `CallbackList` of a run: this worker's callbacks, and a progress bar on the chief.

    Args:
        model: the `keras.Model`.
        callbacks, verbose: as in Keras.
        epochs, steps: the number of epochs, and of steps in an epoch or None, for the progress bar.
        more: tfdist's own callbacks, which run after the user's.
        history: whether to add a `keras.callbacks.History`.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        if not more:
            return callbacks
        # The user's own list may have its own progress bar, and must stay unchanged for the next `fit`.
        callbacks, verbose = callbacks.callbacks, 0
    workers = Workers.of(model.distribute_strategy)
    verbose = (1 if verbose == "auto" else verbose) if workers.is_chief else 0
    chosen = for_this_worker(keras.tree.flatten(callbacks or []), workers)
    if history and not any(isinstance(callback, keras.callbacks.History) for callback in chosen):
        # Before tfdist's callbacks, which save: Keras would put it last, and a checkpoint would lack the last epoch.
        chosen.append(keras.callbacks.History())
    return keras.callbacks.CallbackList(
        [*chosen, *more],
        add_history=history,
        add_progbar=verbose != 0,
        model=model,
        verbose=verbose,
        epochs=epochs,
        steps=steps,
    )


class _RestoreOnly(keras.callbacks.Callback):
    """Runs `BackupAndRestore` on a worker that is not the chief: it reads the backup and never writes or deletes it."""

    def __init__(self, callback):
        super().__init__()
        self._callback = callback

    def set_model(self, model):
        super().set_model(model)
        self._callback.set_model(model)

    def on_train_begin(self, logs=None):
        self._callback.on_train_begin(logs)
