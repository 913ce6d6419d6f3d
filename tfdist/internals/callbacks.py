"""What Keras' callbacks remember from epoch to epoch, and `on_train_begin` makes them forget."""

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
