"""What would end in a wrong or a puzzling run, said before it starts."""

import warnings

import tensorflow as tf

from tfdist.errors import UsageError
from tfdist.internals import models


def check_compiled(model, method):
    """Refuses a model that is not compiled.

    Raises:
        ValueError: `compile` was not called.
    """
    if not models.is_compiled(model):
        raise UsageError(
            f"tfdist.{method}: the model is not compiled. Call model.compile(optimizer, loss) in the scope first."
        )


def check_data(x, name):
    """Refuses None for data.

    Raises:
        ValueError: says what may be given.
    """
    if x is None:
        raise UsageError(
            f"{name} is None. Give arrays, a tf.data.Dataset, a PyDataset, a generator or a tfdist Source."
        )


def check_outputs(outputs):
    """Refuses outputs of `predict_step` whose rows nobody can tell apart.

    Raises:
        ValueError: an output is a scalar or a sparse tensor.
    """
    for part in tf.nest.flatten(outputs):
        if isinstance(part, tf.SparseTensor) or part.shape.rank == 0:
            raise UsageError(
                f"tfdist.predict: predict_step gave {part}. Give one output for each row of the data: a dense or "
                "ragged tensor (B, ...)."
            )


def limit(number, most, name):
    """Gives the smaller of a number (or None) and Keras' limit for trial runs (None: no limit); says when it limits."""
    if not most or (number and number <= most):
        return number
    warnings.warn(f"keras.config limits the {name} to {most}.", stacklevel=2)
    return most


def check_training(model, strategy, options):
    """Refuses a model whose parts were not made in its strategy's scope, or whose XLA compilation cannot be.

    Args:
        model: a compiled, built `keras.Model`.
        strategy: its `tf.distribute.Strategy`.
        options: `StepOptions` whose `jit_compile` is resolved.

    Raises:
        ValueError: says which part, and which line to move or change.
    """
    if strategy.num_replicas_in_sync > 1:
        _check_scope(model)
    synchronised = [layer.name for layer in models.batch_norms(model) if layer.synchronized]
    if options.jit_compile and synchronised and strategy.num_replicas_in_sync > 1:
        raise UsageError(
            f"jit_compile=True, but layer {synchronised[0]!r} takes its statistics over all replicas, and a collective "
            "cannot be compiled by XLA. Use jit_compile=False, or sync_batchnorm=False."
        )


def _check_scope(model):
    owners = (
        ("the optimizer", models.optimizer_variables(model), "model.compile and the optimizer"),
        ("a metric", models.metric_variables(model), "model.compile and the metrics"),
        ("the model", model.variables, "the model"),
    )
    for owner, variables, line in owners:
        for variable in variables:
            if not isinstance(variable.value, tf.distribute.DistributedValues):
                raise UsageError(
                    f"{owner} was made outside strategy.scope(): its variable {variable.path!r} is on one device only. "
                    f"Move the lines that make {line} into `with strategy.scope():`."
                )
