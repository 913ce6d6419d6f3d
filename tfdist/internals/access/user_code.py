"""Tells what a user has written from what Keras brings, whose losses and metrics are known."""

import inspect

import keras

from tfdist.internals.access import models

# Losses of Keras' in which rows may depend on each other.
_COUPLING = ("Dice", "Tversky", "Circle", "dice", "tversky", "circle")


def is_known(item):
    """Returns whether a loss or a metric is one of Keras' in which rows do not depend on each other."""
    wrapped = getattr(item, "fn", None) or getattr(item, "_fn", None)
    for part in (type(item), *([] if wrapped is None else [wrapped])):
        name = getattr(part, "__name__", type(part).__name__)
        if not _is_keras_module(part) or name in _COUPLING:
            return False
    return True


def _is_keras_module(item):
    return (getattr(item, "__module__", None) or "").split(".")[0] == "keras"


def compiled_metrics(model):
    """Returns the metrics that `compile` was given, as Keras made them of it."""
    compiled = getattr(model, "_compile_metrics", None)
    return [] if compiled is None else list(dict.fromkeys(compiled.metrics))


def adds_losses(model):
    """Returns whether code of the user's may add a loss to that of `compile`.

    That is an `add_loss` in a layer or in the model, an activity regularizer, or a `compute_loss` of the model's own.
    """
    if models.has_own(model, "compute_loss"):
        return True
    for layer in (model, *models.layers(model)):
        regularizer = layer.activity_regularizer
        if regularizer is not None and not _is_keras_module(type(regularizer)):
            return True
        if any(map(_names_add_loss, _functions_of_user(type(layer)))):
            return True
    return False


def _functions_of_user(kind):
    for owner in inspect.getmro(kind):
        if not _is_keras_module(owner):
            yield from (value for value in vars(owner).values() if inspect.isfunction(value))


def _names_add_loss(function, known=None):
    """Returns whether a function, or one of its module that it calls by name, reads an attribute `add_loss`."""
    known = set() if known is None else known
    if function in known:
        return False
    known.add(function)
    codes, names = [function.__code__], set()
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        # Functions within functions.
        codes += [constant for constant in code.co_consts if inspect.iscode(constant)]
    if "add_loss" in names:
        return True
    called = (function.__globals__.get(name) for name in names)
    return any(
        inspect.isfunction(each) and each.__module__ == function.__module__ and _names_add_loss(each, known)
        for each in called
    )


def depends_on_training(model):
    """Returns whether a model computes something else in training, from batch statistics or at random."""
    if models.batch_norms(model):
        return True
    return any(
        isinstance(value, keras.random.SeedGenerator)
        for layer in models.layers(model)
        for value in vars(layer).values()
    )
