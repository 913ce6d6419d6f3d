"""Reads the private state of Keras' callbacks: what they remember between epochs, and which batches they use."""

import contextlib
import sys

import keras
from keras.src.callbacks import callback_list

# Class → its attributes, in the newest and the oldest supported Keras.
REMEMBERED = {
    keras.callbacks.EarlyStopping: ("best", "best_epoch", "best_weights", "stopped_epoch", "wait"),
    keras.callbacks.ReduceLROnPlateau: ("best", "cooldown_counter", "wait"),
    keras.callbacks.ModelCheckpoint: ("best", "_batches_seen_since_last_saving", "_last_batch_seen"),
    keras.callbacks.SwapEMAWeights: ("_ema_weights_in_model",),
    keras.callbacks.History: ("epoch", "history"),
}


def remembered(callback):
    """Returns the names of the attributes in which one of Keras' own callbacks keeps its state; none for others."""
    return next((names for kind, names in REMEMBERED.items() if isinstance(callback, kind)), ())


def saves_every(callback):
    """Returns the steps between two saves of one of Keras' own callbacks; None where it saves at the ends of epochs."""
    # In other callbacks, `save_freq` may be a number of epochs. `BackupAndRestore` allows False.
    counts = hasattr(callback, "_batches_seen_since_last_saving") and isinstance(callback.save_freq, int)
    return callback.save_freq or None if counts else None


def steps_until_saving(callback):
    """Returns the steps until the next save of a callback for which `saves_every` returns a number."""
    return callback.save_freq - callback._batches_seen_since_last_saving


def looks_at_batches(tensorboard):
    """Returns whether a `keras.callbacks.TensorBoard` writes or profiles single batches, which its hooks count."""
    return tensorboard.update_freq != "epoch" or tensorboard._should_trace


def running():
    """Returns the callback whose hook a Keras `CallbackList` has called on this thread; None outside of hooks."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == callback_list.__file__ and "callback" in frame.f_locals:
            return frame.f_locals["callback"]
        frame = frame.f_back
    return None


@contextlib.contextmanager
def weights_swapped_back(callbacks):
    """Makes `keras.callbacks.SwapEMAWeights` leave the weights themselves behind at the end of a prediction.

    Keras' own hook for that end tests the wrong way round, and leaves the averages in the model; the next prediction
    then swaps again.

    Args:
        callbacks: the callbacks of the prediction.
    """
    try:
        yield
    finally:
        for callback in callbacks:
            if isinstance(callback, keras.callbacks.SwapEMAWeights):
                # The same as the end of an evaluation; it does nothing where the weights are in the model.
                callback.on_test_end()
