"""Moves a model that was made outside a strategy's scope into the strategy, with the values of all its variables."""

import keras
import numpy as np
import tensorflow as tf


def move_model(model, strategy):
    """Makes the variables of a model, its optimizer and its metrics anew in a strategy, in the places of the old ones.

    Args:
        model: a `keras.Model` of one replica, built or not, compiled or not; what was compiled before is dropped.
        strategy: the `tf.distribute.Strategy`.
    """
    variables = [*model.variables, *(variable for metric in _metrics(model) for variable in metric.variables)]
    variables += [] if model.optimizer is None else model.optimizer.variables
    optimizers = [model.optimizer, getattr(model.optimizer, "inner_optimizer", None)]
    optimizers = [optimizer for optimizer in optimizers if optimizer is not None]
    # An optimizer knows variables by TensorFlow's names for them, which become new ones.
    excluded = [_excluded(optimizer, model.variables) for optimizer in optimizers]
    with strategy.scope():
        for variable in {id(variable): variable for variable in variables}.values():
            if variable._value is not None:
                variable._initialize(np.asarray(variable))
    for optimizer, variables in zip(optimizers, excluded, strict=True):
        optimizer._distribution_strategy = strategy
        known = getattr(optimizer, "_trainable_variables", None) or []
        keys = {optimizer._var_key(variable): place for place, variable in enumerate(known)}
        optimizer._trainable_variables_indices = keys
        optimizer._exclude_from_weight_decay = {optimizer._var_key(variable) for variable in variables}
        optimizer._exclude_from_weight_decay_cache = {}
    for part in model._flatten_layers():
        if isinstance(part, keras.Model):
            part._distribute_strategy = strategy
            part.train_function = part.test_function = part.predict_function = None
            vars(part).pop("_tfdist_kept", None)


def unmovable(model):
    """Returns a phrase about what in a model cannot be moved; None where there is nothing.

    Of TensorFlow's own variables, and those of a second optimizer, Keras does not know the places.
    """
    if hasattr(model.optimizer, "_inner_optimizers"):
        return f"the optimizer is a {type(model.optimizer).__name__}"
    for layer in model._flatten_layers():
        for name, value in vars(layer).items():
            # TensorFlow keeps what it tracks a second time, under names of its own.
            for part in () if name.startswith("_self_") else _parts(value):
                is_second = isinstance(part, keras.optimizers.Optimizer) and part is not model.optimizer
                if is_second or isinstance(part, tf.Variable | tf.Module):
                    return f"{layer.name}.{name} holds a {type(part).__name__}"
    return None


def _excluded(optimizer, variables):
    """Returns the variables that an optimizer leaves out of its weight decay by their own names."""
    keys = getattr(optimizer, "_exclude_from_weight_decay", ())
    return [variable for variable in variables if keys and optimizer._var_key(variable) in keys]


def _parts(value):
    """Returns the items of a list, a tuple or a dict, whose keys may be of any kind; of anything else itself."""
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list | tuple) else [value]


def _metrics(model):
    """Returns the model's metrics, and those given to `compile`, which it lists only when it is built."""
    compiled = getattr(model, "_compile_metrics", None)
    given = [] if compiled is None else [compiled._user_metrics, compiled._user_weighted_metrics]
    own = [item for item in keras.tree.flatten(given) if isinstance(item, keras.metrics.Metric)]
    return [*model.metrics, *own]
