"""Refuses arguments of `fit`, `evaluate`, `predict` and `open_run` that are of another kind than they take."""

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from tfdist.options.checkpoints import CheckpointOptions
from tfdist.options.checks import is_number, is_whole
from tfdist.process.errors import UsageError
from tfdist.process.log import say


def check_call(model, method, callbacks=None, class_weight=None):
    """Refuses a model, callbacks or class weights of another kind.

    Args:
        model, callbacks, class_weight: as `fit` takes them.
        method: the name of the function that was called, for the message.

    Raises:
        ValueError: the message names the argument, its value and what to give.
    """
    check_model(model, method)
    check_callbacks(callbacks, method)
    if class_weight is None:
        return
    pairs = class_weight.items() if isinstance(class_weight, Mapping) else [(None, None)]
    if not all(is_whole(label) and is_number(weight) for label, weight in pairs):
        raise UsageError(
            f"tfdist.{method}: class_weight is {_shown(class_weight)}. Use a dict: the number of a class → its weight."
        )


def check_model(model, method):
    """Refuses what is no model of Keras 3.

    Raises:
        ValueError: the message says what to give.
    """
    # Not only `keras.Model`: any layer with Keras' `Trainer` has its methods.
    if isinstance(model, keras.layers.Layer) and hasattr(model, "train_step"):
        return
    cure = "Give a keras.Model, made in strategy.scope()."
    if isinstance(model, type):
        cure = f"Give a model, not its class: {model.__name__}(…)."
    elif _is_of_another_keras(model):
        cure = f"It is a model of {type(model).__module__.partition('.')[0]}. Make it with Keras 3: import keras."
    raise UsageError(f"tfdist.{method}: model is {_shown(model)}. {cure}")


def check_optimizer(optimizer, method):
    """Refuses what is no optimizer of Keras 3.

    Raises:
        ValueError: the message says what to give.
    """
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        cure = "Give a Keras optimizer, made in strategy.scope(), such as keras.optimizers.Adam()."
        raise UsageError(f"{method}: optimizer is {_shown(optimizer)}. {cure}")


def check_callbacks(callbacks, method):
    """Refuses callbacks that Keras could not call.

    Raises:
        ValueError: the message names the one that is wrong.
    """
    if callbacks is None or isinstance(callbacks, keras.callbacks.CallbackList):
        return
    for callback in keras.tree.flatten(callbacks):
        if isinstance(callback, type):
            cure = f"Give a callback, not its class: {callback.__name__}(…)."
        elif isinstance(callback, keras.callbacks.Callback) or hasattr(callback, "set_model"):
            continue
        else:
            cure = "Use a list of keras.callbacks.Callback."
        where = "is" if callback is callbacks else "has"
        raise UsageError(f"tfdist.{method}: callbacks {where} {_shown(callback)}. {cure}")


def check_batches(train):
    """Refuses data for `open_run` that are no batches.

    Raises:
        ValueError: the message says how to make batches of them.
    """
    if isinstance(train, tuple | list | Mapping | np.ndarray | tf.Tensor | str) or np.isscalar(train):
        kind = f"a {type(train).__name__}" if isinstance(train, tuple | list | Mapping) else _shown(train)
        raise UsageError(
            f"tfdist.open_run: train is {kind}, but a loop needs batches. Give tfdist.data.from_arrays(x, y, "
            "global_batch=…), another tfdist Source, a tf.data.Dataset, a PyDataset or a generator."
        )


def tell_what_has_no_effect(model, loop, checkpoints, feed):
    """Logs a line for each argument that changes nothing in a run.

    Args:
        model: a `keras.Model`.
        loop: its `LoopOptions`.
        checkpoints: its `CheckpointOptions`.
        feed: its `Feed`.
    """
    if checkpoints.folder is None and checkpoints.keep != CheckpointOptions().keep:
        say(f"keep_checkpoints is {checkpoints.keep}, but it has no effect without run_dir. Give the run's folder too.")
    if checkpoints.folder is None and checkpoints.log_every_steps and loop.verbose != 2:
        say(
            f"log_every_steps is {checkpoints.log_every_steps}, but it has no effect without run_dir or verbose=2. "
            "Give one of them."
        )
    if loop.steps is None and loop.initial_epoch >= loop.epochs:
        say(f"initial_epoch is {loop.initial_epoch}, but epochs is {loop.epochs}: no epoch is left to train.")
    steps, epoch = model.steps_per_execution, feed.steps_per_epoch
    if epoch and steps > epoch:
        say(f"steps_per_execution is {steps}, but an epoch has {epoch} steps: a call has at most {epoch}.")


def _is_of_another_keras(model):
    names = {kind.__name__ for kind in type(model).__mro__}
    return "Model" in names and not isinstance(model, keras.layers.Layer)


def _shown(value):
    """Returns a value's text for a message; of a long one its type."""
    text = repr(value)
    return text if len(text) <= 60 and "\n" not in text else f"a {type(value).__name__}"
