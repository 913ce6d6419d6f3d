"""Distinguishes what a user has written from what Keras brings, whose losses and metrics are known."""

import inspect

import keras

from tfdist.internals.access import models
from tfdist.internals.access.layer_trials import built_with

# Losses of Keras' in which rows may depend on each other.
_COUPLING = ("Dice", "Tversky", "Circle", "dice", "tversky", "circle")
# Attributes and options with axes along which something of Keras' is computed.
_AXES = ("axis", "axes", "_attention_axes")
# What a layer holds that sees no rows, or that is looked for elsewhere.
_WITHOUT_ROWS = ("initializer", "regularizer", "constraint")
_OPERATIONS = {"gather_rows", "global_sum", "global_loss", "global_mean"}
# What leads to the other replicas in TensorFlow.
_OF_TENSORFLOW = {"get_replica_context", "all_reduce", "all_gather", "merge_call", "num_replicas_in_sync"}
_BRANCHES = {"cond", "case", "switch_case", "switch", "while_loop", "fori_loop", "scan", "map_fn", "function"}
# Packages whose functions are not looked into.
_OTHERS = {"keras", "tensorflow", "numpy", "tfdist"}


def is_known(item):
    """Returns whether a loss or a metric is one of Keras' in which rows do not depend on each other."""
    wrapped = getattr(item, "fn", None) or getattr(item, "_fn", None)
    for part in (type(item), *([] if wrapped is None else [wrapped])):
        name = getattr(part, "__name__", type(part).__name__)
        if not _is_keras_module(part) or name in _COUPLING:
            return False
    return not _works_along_rows(item)


def weighs_itself(loss):
    """Returns whether a `keras.losses.Loss` is given the weights of the rows, because it overrides `__call__`."""
    return type(loss).__call__ is not keras.losses.Loss.__call__


def _works_along_rows(item, rank_of=lambda item: None):
    """Returns whether an axis of something of Keras' is that of the rows, or a negative one that may be.

    Args:
        item: a loss, a metric or a layer.
        rank_of: a function of it: the rank of what it is given, None if that is unknown.
    """
    options = {**vars(item), **(getattr(item, "_fn_kwargs", None) or {})}
    found = [options.get(name) for name in _AXES]
    axes = {axis for some in found for axis in (some if isinstance(some, list | tuple) else [some])} - {None, -1}
    if 0 in axes:
        return True
    before_last = {axis for axis in axes if isinstance(axis, int) and axis < -1}
    return bool(before_last) and (rank_of(item) is None or -rank_of(item) in before_last)


def _rank_of_layer(layer):
    try:
        return len(keras.tree.flatten(layer.input)[0].shape)
    except (AttributeError, ValueError):
        # It is no part of a graph.
        shape = built_with(layer)
        return shape and len(shape)


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


def own_layers(model):
    """Returns the layers of a model whose class, or a function that they hold, is none of Keras' or tfdist's.

    So are those of Keras' that compute something along the rows, such as `Softmax(axis=0)`.
    """
    return [layer for layer in models.layers(model) if _is_own(layer) or _works_along_rows(layer, _rank_of_layer)]


def _is_own(layer):
    return not _is_of_library(type(layer)) or _has_own_function(layer)


def _is_of_library(kind):
    return kind.__module__.split(".")[0] in ("keras", "tfdist")


def _has_own_function(layer):
    """Returns whether a layer holds a function, or an object that is called like one, of the user's making."""
    held = [value for name, value in vars(layer).items() if not name.endswith(_WITHOUT_ROWS)]
    called = [value for value in held if callable(value) and not isinstance(value, keras.layers.Layer)]
    return not all(map(_is_library_function, called))


def _is_library_function(function):
    return (getattr(function, "__module__", None) or "").split(".")[0] in _OTHERS


def computes_itself(model):
    """Returns whether a model's own `call`, or operations between its layers, compute something."""
    if not models.is_graph(model):
        return True
    graphs = [each for each in (model, *models.layers(model)) if models.is_graph(each)]
    operations = [operation for graph in graphs for operation in getattr(graph, "_operations", ())]
    return not all(isinstance(operation, keras.layers.Layer) for operation in operations)


def needs_no_trial(layer):
    """Returns whether it is known of a layer of Keras' or tfdist's that its rows are not alone, or are drawn.

    A step takes care of them.
    """
    if isinstance(layer, keras.layers.BatchNormalization):
        return type(layer).call is keras.layers.BatchNormalization.call
    return _is_of_library(type(layer)) and (not _is_keras_module(type(layer)) or _owns_seed(layer))


def _owns_seed(layer):
    return any(isinstance(value, keras.random.SeedGenerator) for value in vars(layer).values())


def talks_to_replicas(layer):
    """Returns whether code of a layer names an operation over the replicas, of tfdist's or of TensorFlow's."""
    return _reads_any(_OPERATIONS | _OF_TENSORFLOW, _functions_of([type(layer)]))


def may_branch(layer):
    """Returns whether code of a layer names a branch, a loop or a function of TensorFlow's."""
    owners = [owner for owner in inspect.getmro(type(layer)) if not _is_of_library(owner)]
    if any(hasattr(value, "python_function") for owner in owners for value in vars(owner).values()):
        return True
    return _reads_any(_BRANCHES, _functions_of([type(layer)]))


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
    return any(map(_owns_seed, models.layers(model)))
