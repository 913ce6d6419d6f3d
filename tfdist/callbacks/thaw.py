"""Trains layers that were frozen, from an epoch on."""

from tfdist.callbacks.base import Callback
from tfdist.internals.access.kept import forget
from tfdist.internals.access.layer_paths import restore_trainable
from tfdist.process.log import say
from tfdist.strategy.workers import Workers


class Thaw(Callback):
    """Makes frozen layers trainable after some epochs; a run that resumes later does so at once.

    Args:
        epochs: the epochs that are trained before.
        state: what `layer_paths.trainable_state` returned before the layers were frozen.
    """

    every_worker = True

    def __init__(self, epochs, state):
        super().__init__()
        self._epochs = epochs
        self._state = state

    def on_epoch_begin(self, epoch, logs=None):
        """Makes them trainable, and has the step traced again."""
        if self._state is None or epoch < self._epochs:
            return
        restore_trainable(self._state)
        self._state = None
        forget(self.model)
        if Workers.of(self.model.distribute_strategy).is_chief:
            say(f"epoch {epoch + 1}: the frozen layers are trained from now on.")
