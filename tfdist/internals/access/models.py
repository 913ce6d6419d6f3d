"""What a Keras model knows of itself and does not tell in public."""

import contextlib
import functools

import keras
import numpy as np
import tensorflow as tf
from keras.src import backend
from keras.src.backend import compute_output_spec
from keras.src.backend.tensorflow.trainer import potentially_ragged_concat
from keras.src.models.functional import Functional

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
    """Gives what Keras' `compute_output_spec` gives; nothing is traced where a model of layers alone knows it."""
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
            # All that Keras wants of a loss for one output here, which would build itself at its first call.
            model._compile_loss.build(y, y_pred)
            return None
    return compute_output_spec(function, *arguments, **options)


def _known_outputs(model, x):
    """Gives the outputs for inputs of just the form that the model was made for, nested `KerasTensor`s; else None."""
    graph = model._functional if isinstance(model, keras.Sequential) else model
    given, made = keras.tree.flatten(x), keras.tree.flatten(graph._inputs_struct) if graph else None
    # A dict's values come in the order of its keys, and inputs in any: names are Keras' to match.
    if isinstance(x, dict) or made is None or [each.shape for each in given] != [each.shape for each in made]:
        return None
    # Without the history of the originals, as tracing would give them.
    return keras.tree.map_structure(lambda made: keras.KerasTensor(made.shape, made.dtype), graph._outputs_struct)


def build_layers(model, batch_spec):
    """Creates the weights of a model whose layers are not all built, compiled or not.

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


def first_epoch(model, given):
    """Gives the epoch with which `fit` begins: the one that `keras.callbacks.BackupAndRestore` found, or the given."""
    return model._initial_epoch or given


def is_compiled(model):
    """Says whether `compile` was called."""
    return model.compiled


def compile_token(model):
    """Gives an object that is another one after each `compile`, to tell what was traced before it."""
    return model._loss_tracker


def loss_tracker(model):
    """Gives the `keras.metrics.Mean` behind the log entry "loss"."""
    return model._loss_tracker


def call(model, x, *, training):
    """Calls the model, with `training` where its `call` takes it."""
    return model(x, training=training) if model._call_has_training_arg else model(x)


def compute_loss(model, x, y, y_pred, sample_weight, *, training):
    """Calls the model's `compute_loss`, also one from before Keras 3.3 that takes no `training`."""
    return model._compute_loss(x, y, y_pred, sample_weight, training=training)


def has_own(model, method):
    """Returns whether a model has a method of its own, such as `train_step`, in place of Keras'.

    It may be of the model's class, or set on the model itself.
    """
    return method in vars(model) or getattr(type(model), method) is not getattr(keras.Model, method)


def layers(model):
    """Gives every layer of the model, nested ones too."""
    return list(model._flatten_layers(include_self=False))


def is_graph(layer):
    """Says whether it is a sequential or functional model, not a subclass: then its layers are all it does."""
    return type(layer) in (keras.Sequential, Functional)


def metric_variables(model):
    """Gives the variables behind all the model's metrics, in one order on every worker."""
    return [variable for metric in model.metrics for variable in metric.variables]


def batch_norms(model):
    """Gives the model's BatchNormalization layers."""
    return [item for item in layers(model) if isinstance(item, keras.layers.BatchNormalization)]


def weights_alike(model):
    """Gives the weights that every replica must hold alike: all but what a layer may keep of its own rows."""
    kept = [weight for layer in model._flatten_layers() for weight in layer._trainable_variables]
    for layer in batch_norms(model):
        kept += layer.non_trainable_variables if layer.synchronized else []
    return list({id(weight): weight for weight in kept}.values())


def number_types(model):
    """Gives the names of the types that the model computes with and keeps its weights in."""
    return {layer.compute_dtype for layer in layers(model)} | {weight.dtype for weight in model.weights}


def unsynchronised_statistics(model):
    """Gives the moving statistics of BatchNormalization layers that are not synchronised, and so differ by replica."""
    local = [layer for layer in batch_norms(model) if not layer.synchronized]
    return [variable for layer in local for variable in (layer.moving_mean, layer.moving_variance)]


def cannot_be_padded(model, method):
    """Says what in a model takes a mean over rows of its own, from which rows that only pad cannot be left out.

    Args:
        model: a compiled `keras.Model`.
        method: "train_step" or "test_step".

    Returns:
        A phrase, or None where nothing is known that does.
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
    """Says whether a loss may divide by weights or unmasked elements, which are counted over all replicas."""
    losses = [loss for loss in keras.tree.flatten(model.loss) if isinstance(loss, keras.losses.Loss)]
    if any(loss.reduction == "mean_with_sample_weight" for loss in losses):
        return True
    masked = [layer for layer in layers(model) if isinstance(layer, keras.layers.Masking)]
    return bool(masked) or any(getattr(layer, "mask_zero", False) for layer in layers(model))


@contextlib.contextmanager
def batch_norms_synchronized(model, synchronized):
    """Makes every BatchNormalization take its statistics over all replicas, or none, while it is entered."""
    before = [(layer, layer.synchronized) for layer in batch_norms(model)]
    try:
        for layer, _ in before:
            layer.synchronized = synchronized
        yield
    finally:
        for layer, value in before:
            layer.synchronized = value


def optimizer_variables(model):
    """Gives the variables of the model's optimizer; none where it has none."""
    return [] if model.optimizer is None else model.optimizer.variables


def steps_done(model):
    """Gives the steps that the model's optimizer has counted; 0 without one."""
    optimizer = getattr(model, "optimizer", None)
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return 0 if optimizer is None else int(np.asarray(optimizer.iterations))


def settable_learning_rate(model):
    """Gives the optimizer's learning rate as a number, or None where a schedule makes it."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if optimizer is None or not isinstance(optimizer._learning_rate, keras.Variable):
        return None
    return float(np.asarray(optimizer._learning_rate))


def should_validate(model, epoch, frequency):
    """Says whether a validation is due after an epoch, as Keras reads `validation_freq`."""
    return model._should_eval(epoch, frequency)


def in_order(model, logs):
    """Gives the values of `logs` in the order of `model.metrics_names`: what `evaluate` returns without names."""
    return model._flatten_metrics_in_order(logs)


def ragged_rows(arrays):
    """Gives the rows of arrays of different lengths as a `tf.RaggedTensor`."""
    return potentially_ragged_concat([tf.constant(array) for array in arrays])
