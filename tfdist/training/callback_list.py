"""Which callbacks run on which worker."""

import keras

from tfdist.process.log import say
from tfdist.strategy.choose import is_chief, worker_count

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
    """Chooses the callbacks that run on this worker.

    A callback that tfdist does not know runs on the chief alone, unless it has an attribute `every_worker = True`; with
    False it says that it wants that, and need not be told.

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
            known = isinstance(callback, (*_CHIEF_ALONE, keras.callbacks.BackupAndRestore))
            if not known and not hasattr(callback, "every_worker"):
                say(
                    f"callback {type(callback).__name__} runs on the chief alone. If it is to run on every worker, "
                    "give it an attribute every_worker = True."
                )
        elif isinstance(callback, keras.callbacks.BackupAndRestore):
            chosen.append(_RestoreOnly(callback))
    return chosen


def make_callback_list(model, callbacks, verbose, *, epochs, steps, more=(), history=False):
    """Gives the callbacks of a run as Keras makes them: those of this worker, a progress bar on the chief.

    Args:
        model: the `keras.Model`.
        callbacks, verbose: as in Keras.
        epochs, steps: for the progress bar; steps in an epoch, or None.
        more: tfdist's own, behind the user's.
        history: whether a `keras.callbacks.History` is among them.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        if not more:
            return callbacks
        # A list of the user's own shows what it wants to, and stays as it is for the next `fit`.
        callbacks, verbose = callbacks.callbacks, 0
    verbose = (1 if verbose == "auto" else verbose) if is_chief(model.distribute_strategy) else 0
    chosen = for_this_worker(keras.tree.flatten(callbacks or []), model.distribute_strategy)
    if history and not any(isinstance(callback, keras.callbacks.History) for callback in chosen):
        # Before those that save: Keras would put it last, and a checkpoint would lack the epoch that has just ended.
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
    """`BackupAndRestore` on a worker that is not the chief: reads the backup, and neither writes nor deletes it."""

    def __init__(self, callback):
        super().__init__()
        self._callback = callback

    def set_model(self, model):
        super().set_model(model)
        self._callback.set_model(model)

    def on_train_begin(self, logs=None):
        self._callback.on_train_begin(logs)
