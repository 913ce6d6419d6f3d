"""Describes a run of `fit` or of a hand-written loop by JSON types, for its `config.json`: two runs can be compared."""

import math

from tfdist.internals.access import runtime
from tfdist.internals.access.rates import current_learning_rate
from tfdist.options.fields import flatten
from tfdist.resume import identity
from tfdist.resume.description import describe
from tfdist.strategy.workers import Workers

# What the description has already, and what says where a run is and not what it is.
_LEFT_OUT = ("run_dir", "epochs", "steps", "steps_per_epoch", "batch_size", "verbose")


def describe_run(made_by, model, feed, options, *, optimizer=None, loss=None, epochs=None, steps=None):
    """Describes a run.

    Args:
        made_by: the function that trains.
        model: a built `keras.Model`.
        feed: the `Feed` that is trained on.
        options: option objects, whose fields are listed where they differ from their defaults.
        optimizer: the Keras optimizer, or None.
        loss: the loss as it was given to `compile`; None where a loop has its own.
        epochs, steps: the length of the run, as far as it is known.

    Returns:
        A dict of JSON types.
    """
    strategy = model.distribute_strategy
    rate = current_learning_rate(optimizer)
    return {
        "made_by": made_by,
        "model": {"name": model.name, "class": type(model).__name__, **count_parameters(model)},
        "optimizer": None if optimizer is None else _describe_optimizer(optimizer, rate),
        "loss": None if loss is None else describe(loss),
        "data": identity.of_data(feed.data),
        "global_batch": feed.global_batch,
        "epochs": epochs,
        "steps": steps,
        "steps_per_epoch": feed.steps_per_epoch,
        "seed": runtime.seed(),
        "precision": model.dtype_policy.name,
        "strategy": type(strategy).__name__,
        "replicas": strategy.num_replicas_in_sync,
        "workers": Workers.of(strategy).count,
        "options": {name: value for each in options for name, value in _changed(each).items()},
    }


def count_parameters(model):
    """Returns the numbers of a model's weights, and of those that are trained, by name."""
    both = {"parameters": model.weights, "trained_parameters": model.trainable_weights}
    return {name: sum(math.prod(weight.shape) for weight in weights) for name, weights in both.items()}


def _describe_optimizer(optimizer, rate):
    described = describe(optimizer)
    # The config has the rate as float32 holds it.
    return described | ({} if not isinstance(described.get("learning_rate"), float) else {"learning_rate": rate})


def _changed(options):
    """Returns the values that differ from the defaults, by the names of their flags."""
    given, default = flatten(options), flatten(type(options)())
    return {
        name: describe(value)
        for name, value in given.items()
        if name not in _LEFT_OUT and value not in (None, default[name])
    }
