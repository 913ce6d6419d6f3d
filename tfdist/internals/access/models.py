"""Builds Keras models, and reads their private state."""

import contextlib
import functools

import keras
import numpy as np
import tensorflow as tf
from keras.src import backend
from keras.src.backend import compute_output_spec
from keras.src.backend.tensorflow.trainer import potentially_ragged_concat
from keras.src.models.functional import Functional
from keras.src.trainers.trainer import model_supports_jit

from tfdist.internals.access import variables
from tfdist.internals.access.replica import swapped


def build(model, batch_spec):
    """Creates every variable of a compiled model: weights, metrics, loss trackers, optimizer.

    Args:
        model: a compiled `keras.Model`.
        batch_spec: nested `tf.TensorSpec`s of x, (x, y) or (x, y, sample_weight), first dimension None.
    """
    spec = functools.partial(_spec_of, model)
    with model.distribute_strategy.scope(), swapped((backend, "compute_output_spec", spec)):
        model._symbolic_build(data_batch=batch_spec)


def _spec_of(model, function, *arguments, **options):
    """Returns what Keras' `compute_output_spec` returns, without tracing where a graph of layers already knows it."""
    if (
        function is model
        and is_graph(model)
        and model.built
        and (outputs := _known_outputs(model, arguments[0])) is not None
    ):
        return outputs
    if function == model._compute_loss and not has_own(model, "compute_loss"):
        _, y, y_pred = arguments
        if y is not None and not keras.tree.is_nested(y) and not keras.tree.is_nested(y_pred):
            # Keras needs only that the loss of one output is built, which its first call would do.
            model._compile_loss.build(y, y_pred)
            return None
    return compute_output_spec(function, *arguments, **options)


def _known_outputs(model, x):
    """Returns the outputs, nested `KerasTensor`s, for inputs of the shapes that the model was made with; else None."""
    graph = model._functional if isinstance(model, keras.Sequential) else model
    given, made = keras.tree.flatten(x), keras.tree.flatten(graph._inputs_struct) if graph else None
    # A dict's values come in the order of its keys, the inputs in any order, so Keras must match them by name.
    if isinstance(x, dict) or made is None or [each.shape for each in given] != [each.shape for each in made]:
        return None
    # Without the history of the originals, as tracing would return them.
    return keras.tree.map_structure(lambda made: keras.KerasTensor(made.shape, made.dtype), graph._outputs_struct)


def build_layers(model, batch_spec):
    """Creates the weights of a model, compiled or not, unless all its layers are built.

    Args:
        model: a `keras.Model`.
        batch_spec: nested `tf.TensorSpec`s of a batch that begins with x, first dimension None.
    """
    if all(layer.built for layer in model._flatten_layers()):
        return

    def symbolic(spec):
        return None if spec is None else keras.KerasTensor(spec.shape, keras.backend.standardize_dtype(spec.dtype))

    x, _, _ = keras.utils.unpack_x_y_sample_weight(keras.tree.map_structure(symbolic, batch_spec))
    with model.distribute_strategy.scope():
        compute_output_spec(model, x, training=False)


def output_specs(model, batch_spec):
    """Returns nested specs of a built model's outputs.

    Args:
        model: a `keras.Model`.
        batch_spec: as in `build`.
    """

    def symbolic(spec):
        return None if spec is None else keras.KerasTensor(spec.shape, keras.backend.standardize_dtype(spec.dtype))

    x, _, _ = keras.utils.unpack_x_y_sample_weight(keras.tree.map_structure(symbolic, batch_spec))
    outputs = _known_outputs(model, x) if is_graph(model) else None
    with model.distribute_strategy.scope():
        outputs = compute_output_spec(model, x, training=False) if outputs is None else outputs
    return keras.tree.map_structure(lambda output: tf.TensorSpec(output.shape, output.dtype), outputs)


def first_epoch(model, given):
    """Returns the first epoch of `fit`: the one that `keras.callbacks.BackupAndRestore` found, or the given one."""
    return model._initial_epoch or given


def is_compiled(model):
    """Returns whether `compile` was called."""
    return model.compiled


def compile_token(model):
    """Returns an object that each `compile` replaces, so that functions traced before it are recognized."""
    return model._loss_tracker


def loss_tracker(model):
    """Returns the `keras.metrics.Mean` behind the log entry "loss"."""
    return model._loss_tracker


def call(model, x, *, training):
    """Calls the model, with `training` where its `call` takes it."""
    return model(x, training=training) if model._call_has_training_arg else model(x)


def compute_loss(model, x, y, y_pred, sample_weight, *, training):
    """Calls the model's `compute_loss`, also one from before Keras 3.3 that takes no `training`."""
    return model._compute_loss(x, y, y_pred, sample_weight, training=training)


def has_own(model, method):
    """Returns whether a model has a method of its own, such as `train_step`, in place of Keras'.

    The method may belong to the model's class, or be set on the model itself.
    """
    return method in vars(model) or getattr(type(model), method) is not getattr(keras.Model, method)


def loss_arguments(loss):
    """Returns the arguments of a Keras loss, of which its config lacks some; an empty dict for other objects."""
    return dict(getattr(loss, "_fn_kwargs", None) or {}) if isinstance(loss, keras.losses.Loss) else {}


def layers(model):
    """Returns every layer of the model, nested ones too."""
    return list(model._flatten_layers(include_self=False))


def is_graph(layer):
    """Returns whether a layer is a sequential or functional model, not a subclass, so that it only calls its layers."""
    return type(layer) in (keras.Sequential, Functional)


def metric_variables(model):
    """Returns the variables behind all the model's metrics, in one order on every worker."""
    return [variable for metric in model.metrics for variable in metric.variables]


def all_metrics(model):
    """Returns the model's metrics and those that `compile` was given, which a model that is not built does not list."""
    compiled = getattr(model, "_compile_metrics", None)
    given = [compiled._user_metrics, compiled._user_weighted_metrics] if compiled is not None else []
    return [*model.metrics, *(each for each in keras.tree.flatten(given) if isinstance(each, keras.metrics.Metric))]


def compiled_losses(model):
    """Returns the losses of a built model, as Keras made them of what `compile` was given: one for each output."""
    compiled = getattr(model, "_compile_loss", None)
    return [] if compiled is None or compiled._flat_losses is None else [entry.loss for entry in compiled._flat_losses]


def losses_replaced(model, losses):
    """Puts others in the places of `compiled_losses`, while the context is entered."""
    compiled = model._compile_loss
    entries = [entry._replace(loss=loss) for entry, loss in zip(compiled._flat_losses, losses, strict=True)]
    return swapped((compiled, "_flat_losses", entries))


def loss_inputs(model, y, y_pred, sample_weight=None):
    """Returns for each of `compiled_losses` its parts of the targets, of the outputs and of the weights.

    Args:
        model: a built model.
        y, y_pred, sample_weight: nested tensors; the weights may be None.
    """
    compiled, seen = model._compile_loss, []

    def notes(place):
        def loss(y_true, y_pred, sample_weight=None):
            seen.append((place, y_true, y_pred, sample_weight))
            return tf.zeros([])

        return loss

    stand_ins = [notes(place) for place in range(len(compiled._flat_losses))]
    # In a scope of its own, because Keras counts the losses of several outputs.
    with losses_replaced(model, stand_ins), keras.StatelessScope():
        compiled(y, y_pred, sample_weight)
    return [parts for _, *parts in sorted(seen, key=lambda each: each[0])]


def compiled_metrics(model, y, y_pred, sample_weight=None):
    """Yields (metric, its parts of the targets, of the outputs and of the weights) for those that `compile` was given.

    The part of the weights is None for metrics that are not among the `weighted_metrics`.
    """
    compiled = getattr(model, "_compile_metrics", None)
    if compiled is None or not compiled.built:
        return
    targets, outputs = compiled._flatten_y(y), compiled._flatten_y(y_pred)
    weights = [None] if sample_weight is None else compiled._flatten_y(sample_weight)
    # As Keras does it: one weight may be for all outputs.
    weights = weights if len(weights) >= len(targets) else weights[:1] * len(targets)
    none = [None] * len(targets)
    for parts, of_rows in ((compiled._flat_metrics, none), (compiled._flat_weighted_metrics, weights)):
        for some, target, output, weight in zip(parts, targets, outputs, of_rows, strict=False):
            for metric in getattr(some, "metrics", [some] if some else []):
                yield metric, target, output, weight


def batch_norms(model):
    """Returns the model's BatchNormalization layers."""
    return [item for item in layers(model) if isinstance(item, keras.layers.BatchNormalization)]


def variables_alike(model, parts=None):
    """Returns the variables that must be equal on all replicas between two calls: all that can be reached, but few.

    Metrics are left out, gradients that are accumulated, and what each replica keeps for itself.

    Args:
        model: a `keras.Model`.
        parts: None, or name → further objects to begin from, such as the optimizer of a hand-written loop.
    """
    reached = variables.reached_from({"model": model} | (parts or {}))
    left_out = {id(gradient) for each in reached.optimizers.values() for gradient in _accumulated(each)}
    alike = [each for each in reached.variables.values() if not variables.is_per_replica(each)]
    return [each for each in alike if id(each) not in left_out and each.dtype != "string"]


def _accumulated(optimizer):
    return getattr(optimizer, "_accumulated_gradients", None) or ()


def states(model, parts=None):
    """Returns the variables that a step may assign: all but those of optimizers, metrics and random numbers.

    What each replica keeps for itself, as the user has declared or `BatchNormalization` was told, is left out too. The
    arguments are those of `variables_alike`.
    """
    reached = variables.reached_from({"model": model} | (parts or {}))
    others = [variable for optimizer in reached.optimizers.values() for variable in optimizer.variables]
    others += [*reached.seeds, *unsynchronized_statistics(model)]
    left_out = set(map(variables.identity, others))
    return [
        variable
        for variable in reached.variables.values()
        if variables.identity(variable) not in left_out
        and not variables.is_per_replica(variable)
        and variables.is_distributed(variable)
    ]


def number_types(model):
    """Returns the names of the types in which the model computes and keeps its weights."""
    return {layer.compute_dtype for layer in layers(model)} | {weight.dtype for weight in model.weights}


def unsynchronized_statistics(model):
    """Returns the moving statistics of BatchNormalization layers that are not synchronized, which differ by replica."""
    local = [layer for layer in batch_norms(model) if not layer.synchronized]
    return [variable for layer in local for variable in (layer.moving_mean, layer.moving_variance)]


def layers_with_local_statistics(model):
    """Returns the names of BatchNormalization layers that are not synchronized."""
    return [layer.name for layer in batch_norms(model) if not layer.synchronized]


def cannot_be_padded(model, method):
    """Returns what in a model takes a mean over rows of its own, from which padding rows cannot be excluded.

    Args:
        model: a compiled `keras.Model`.
        method: "train_step" or "test_step".

    Returns:
        A phrase for messages, or None where no such part is known.
    """
    for name in (method, "compute_loss", "compute_metrics"):
        if has_own(model, name):
            return f"the model's own {name}"
    for layer in layers(model):
        if layer.activity_regularizer is not None:
            return f"the activity regularizer of layer {layer.name!r}"
    local = [layer.name for layer in batch_norms(model) if not layer.synchronized]
    return f"layer {local[0]!r}, a BatchNormalization not synchronized," if local and method == "train_step" else None


def counts_over_replicas(model):
    """Returns whether a loss may divide by weights or unmasked elements, which are counted over all replicas."""
    losses = [loss for loss in keras.tree.flatten(model.loss) if isinstance(loss, keras.losses.Loss)]
    if any(loss.reduction == "mean_with_sample_weight" for loss in losses):
        return True
    masked = [layer for layer in layers(model) if isinstance(layer, keras.layers.Masking)]
    return bool(masked) or any(getattr(layer, "mask_zero", False) for layer in layers(model))


@contextlib.contextmanager
def batch_norms_synchronized(model, synchronized):
    """Sets `synchronized` of every BatchNormalization while the context is entered, and restores it afterwards."""
    before = [(layer, layer.synchronized) for layer in batch_norms(model)]
    try:
        for layer, _ in before:
            layer.synchronized = synchronized
        yield
    finally:
        for layer, value in before:
            layer.synchronized = value


def optimizer_variables(model):
    """Returns the variables of the model's optimizer; none where it has none."""
    return [] if model.optimizer is None else model.optimizer.variables


def states_of_replicas(model):
    """Returns the variables in which each replica keeps a value of its own, other than metrics."""
    return list(filter(variables.is_per_replica, variables.reached_from({"model": model}).variables.values()))


def trained_by(optimizer):
    """Returns the variables that an optimizer was built for, in its order."""
    return getattr(optimizer, "inner_optimizer", optimizer)._trainable_variables


def scales_loss(model):
    """Returns whether the model's optimizer scales the loss, and leaves out updates that are not finite."""
    return isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


def not_finite(variables):
    """Returns the paths of the variables that hold a NaN or an infinity; every replica has the same values.

    Args:
        variables: `keras.Variable`s.
    """
    floating = [variable for variable in variables if tf.as_dtype(variable.dtype).is_floating]
    if not floating:
        return []
    finite = [tf.reduce_all(tf.math.is_finite(local_value(variable))) for variable in floating]
    # One read for all of them, because each waits for the device.
    return [variable.path for variable, each in zip(floating, tf.stack(finite).numpy(), strict=True) if not each]


def local_value(variable):
    """Returns the value of a `keras.Variable` on this worker's first replica."""
    parts = getattr(variable.value, "values", None)
    return tf.convert_to_tensor(parts[0] if parts else variable.value)


def steps_done(model):
    """Returns the steps that the model's optimizer has counted; 0 without one."""
    optimizer = getattr(model, "optimizer", None)
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return 0 if optimizer is None else int(np.asarray(optimizer.iterations))


def settable_learning_rate(model):
    """Returns the learning rate of a model's optimizer as a number, or None where a schedule computes it."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if optimizer is None or not isinstance(optimizer._learning_rate, keras.Variable):
        return None
    return float(np.asarray(optimizer._learning_rate))


def rows_counted(model):
    """Returns the rows of this process's replicas since the metrics were reset, which the loss's mean counts."""
    count = loss_tracker(model).count.value
    parts = getattr(count, "values", None) or [count]
    return round(sum(float(np.asarray(part)) for part in parts))


def should_validate(model, epoch, frequency):
    """Returns whether a validation is due after an epoch, as Keras reads `validation_freq`."""
    return model._should_eval(epoch, frequency)


def supports_jit(model):
    """Returns whether Keras' own `fit` compiles a model with XLA on one device, unless it is told not to."""
    return model_supports_jit(model)


def in_order(model, logs):
    """Returns the values of `logs` in the order of `model.metrics_names`: what `evaluate` returns without names."""
    return model._flatten_metrics_in_order(logs)


def ragged_rows(arrays):
    """Returns the rows of arrays of different lengths as a `tf.RaggedTensor`."""
    return potentially_ragged_concat([tf.constant(array) for array in arrays])
