"""What Keras' callbacks keep to themselves: what they remember from epoch to epoch, and which batches they look at."""

import keras

# Class → its attributes, in the newest and the oldest supported Keras.
REMEMBERED = {
    keras.callbacks.EarlyStopping: ("best", "best_epoch", "best_weights", "stopped_epoch", "wait"),
    keras.callbacks.ReduceLROnPlateau: ("best", "cooldown_counter", "wait"),
    keras.callbacks.ModelCheckpoint: ("best", "_batches_seen_since_last_saving", "_last_batch_seen"),
    keras.callbacks.SwapEMAWeights: ("_ema_weights_in_model",),
    keras.callbacks.History: ("epoch", "history"),
}


def remembered(callback):
    """Gives the names of the attributes in which a callback of Keras' own remembers; none for others."""
    return next((names for kind, names in REMEMBERED.items() if isinstance(callback, kind)), ())


def saves_every(callback):
    """Gives the steps between two savings of a callback of Keras' own; None where it saves at the ends of epochs."""
    # Others may call a number of epochs by that name. `BackupAndRestore` takes False.
    counts = hasattr(callback, "_batches_seen_since_last_saving") and isinstance(callback.save_freq, int)
    return callback.save_freq or None if counts else None


def steps_until_saving(callback):
    """Gives the steps until the next saving of a callback that `saves_every` so many."""
    return callback.save_freq - callback._batches_seen_since_last_saving


def looks_at_batches(tensorboard):
    """Says whether a `keras.callbacks.TensorBoard` writes or profiles single batches, which it counts call by call."""
    return tensorboard.update_freq != "epoch" or tensorboard._should_trace
