"""Distinguishes what a user has written from what Keras brings, whose losses and metrics are known."""

import inspect

import keras

from tfdist.internals.access import models

# Losses of Keras' in which rows may depend on each other.
_COUPLING = ("Dice", "Tversky", "Circle", "dice", "tversky", "circle")
_OPERATIONS = {"gather_rows", "global_sum", "global_loss", "global_mean"}
# Packages whose functions are not looked into.
_OTHERS = {"keras", "tensorflow", "numpy", "tfdist"}


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


def adding_layers(model):
    """Returns the layers, perhaps with the model itself, whose code of the user's may add a loss.

    That is an `add_loss` that is called there, or an activity regularizer that is none of Keras'.
    """
    return [layer for layer in (model, *models.layers(model)) if has_own_regularizer(layer) or adds_loss_itself(layer)]


def adds_loss_itself(layer):
    """Returns whether code of the user's in a layer may call `add_loss`."""
    return _reads_any({"add_loss"}, _functions_of([type(layer)]))


def has_own_regularizer(layer):
    """Returns whether a layer has an activity regularizer that is none of Keras'."""
    regularizer = layer.activity_regularizer
    return regularizer is not None and not _is_keras_module(type(regularizer))


def calls_operation(model):
    """Returns whether code of the user's layers, or of the model itself, names an operation over the replicas."""
    return _reads_any(_OPERATIONS, _functions_of(type(layer) for layer in (model, *models.layers(model))))


def has_own_code(model):
    """Returns whether a layer, the model or a loss is none of Keras'."""
    kinds = [type(layer) for layer in (model, *models.layers(model))]
    return not all(map(_is_keras_module, kinds)) or not all(map(is_known, models.compiled_losses(model)))


def _functions_of(kinds):
    """Yields the functions of classes, without those that Keras brings."""
    for kind in dict.fromkeys(kinds):
        for owner in inspect.getmro(kind):
            if not _is_keras_module(owner):
                yield from filter(inspect.isfunction, vars(owner).values())


def _reads_any(wanted, functions):
    """Returns whether one of some functions, or a function that they call by name, reads one of some names."""
    functions, known = list(functions), set()
    while functions:
        function = functions.pop()
        if function in known or function.__module__.split(".")[0] in _OTHERS:
            continue
        known.add(function)
        names = _names(function.__code__)
        if wanted & names:
            return True
        cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
        called = [*cells, *(function.__globals__.get(name) for name in names)]
        functions += filter(inspect.isfunction, called)
    return False


def _is_filled(cell):
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _names(code):
    """Returns the names that a function reads, with those of the functions within it."""
    within = [_names(constant) for constant in code.co_consts if inspect.iscode(constant)]
    return set(code.co_names).union(*within)


def depends_on_training(model):
    """Returns whether a model computes something else in training, from batch statistics or at random."""
    if models.batch_norms(model):
        return True
    values = (value for layer in models.layers(model) for value in vars(layer).values())
    return any(isinstance(value, keras.random.SeedGenerator) for value in values)
