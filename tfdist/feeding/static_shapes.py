"""Batches of one shape, for a strategy that compiles the whole step: smaller batches are padded or left out."""

import dataclasses

import tensorflow as tf

from tfdist.data.source import Source
from tfdist.internals.access import models
from tfdist.process.errors import UsageError
from tfdist.process.log import say
from tfdist.strategy import choose as strategy

BY_HAND = "a loop written by hand"


def for_strategy(data, model, method=None):
    """Returns the input as the model's strategy needs it: on a TPU every share has the same number of rows.

    A smaller batch is padded with rows that count zero in losses, metrics and synchronized batch statistics. If a model
    takes a mean of its own over the rows, the padding cannot be left out of it; training then leaves that batch out.

    Args:
        data: an `Input`.
        model: a `keras.Model`.
        method: the method that will run: "train_step", "test_step", or None for a prediction, which takes no mean;
            `BY_HAND` for a loop that does not know which rows count.

    Returns:
        An `Input`.

    Raises:
        ValueError: the batches have no fixed shape, or hold strings; one of them can neither be padded nor left out; or
            the model is to run eagerly.
    """
    if not strategy.needs_static_shapes(model.distribute_strategy):
        return data
    if model.run_eagerly and method != BY_HAND:
        raise UsageError(
            "run_eagerly=True: a TPU runs compiled steps alone. Use run_eagerly=False, or look into the step on a CPU: "
            "strategy='one_device'."
        )
    _check_types(data.source)
    replicas = model.distribute_strategy.num_replicas_in_sync
    static = _static(data.source)
    if not static.form(replicas).padded:
        return dataclasses.replace(data, source=static)
    reason = method if method in (None, BY_HAND) else models.cannot_be_padded(model, method)
    if reason is None:
        say(f"{static.name}: smaller batches are padded with rows that count zero, because a TPU needs one shape.")
        return dataclasses.replace(data, source=static)
    dropped = _without_smaller(static, replicas) if method in ("train_step", BY_HAND) else None
    if dropped is None:
        raise UsageError(
            f"{static.name}: a TPU needs batches of one shape, and {reason} takes a mean from which rows that pad a "
            f"smaller batch cannot be left out. Use batches that {replicas} replicas divide, all of one size."
        )
    say(
        f"{static.name}: the last, smaller batch of each epoch is left out, because a TPU needs one shape and {reason} "
        "takes a mean from which rows that pad it cannot be left out. To train on all rows, use batches of one size."
    )
    return dataclasses.replace(data, source=dropped)


def _check_types(source):
    parts = tf.nest.flatten(source.element_spec)
    if any(getattr(part, "dtype", None) == tf.string for part in parts):
        raise UsageError(
            f"{source.name}: a TPU computes no strings. Make numbers of them before the model, such as by "
            "dataset.map(keras.layers.StringLookup(…))."
        )


def _static(source):
    if isinstance(source, Source):
        return dataclasses.replace(source, static_shapes=True)
    return source.with_static_shapes()


def _without_smaller(source, replicas):
    """Returns a `Source` without the last, smaller batch if all others are of one size, else None."""
    if not isinstance(source, Source) or source.global_batch % replicas or source.global_batch > source.rows:
        return None
    return dataclasses.replace(source, plan=dataclasses.replace(source.plan, drop_remainder=True))
