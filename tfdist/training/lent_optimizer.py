"""Makes the optimizer of a hand-written loop known to its callbacks where Keras has it: as `model.optimizer`."""

import keras

_HOOKS = [f"on_{part}_{end}" for part in ("train", "epoch", "train_batch") for end in ("begin", "end")]


class LentOptimizer:
    """Sets the loop's optimizer on a model that is not compiled, as long as callbacks between two others run.

    Only for so long, because what is saved with a model is what its attributes lead to.

    Args:
        model: the `keras.Model`; one that has an optimizer keeps it.
        optimizer: the Keras optimizer of the loop.

    Attributes:
        before, after: the callbacks that come before and after those that look for `model.optimizer`.
    """

    def __init__(self, model, optimizer):
        self._model, self._optimizer = model, optimizer
        self._is_needed = getattr(model, "optimizer", None) is None
        self.before, self.after = _EachHook(self._lend), _EachHook(self.close)

    def _lend(self):
        if self._is_needed:
            # Past Keras' own `__setattr__`, which would track it as a part of the model.
            object.__setattr__(self._model, "optimizer", self._optimizer)

    def close(self):
        """Takes the optimizer from the model; also after an error of a callback."""
        if self._is_needed and "optimizer" in vars(self._model):
            object.__delattr__(self._model, "optimizer")


class _EachHook(keras.callbacks.Callback):
    """Calls a function in each hook of the training."""

    every_worker = True

    def __init__(self, function):
        super().__init__()
        for hook in _HOOKS:
            setattr(self, hook, lambda *arguments, **more: function())
