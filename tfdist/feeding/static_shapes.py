"""Batches of one shape, where a strategy compiles the whole step for it: the smaller ones are padded, or left out."""

import dataclasses

from tfdist.data.source import Source
from tfdist.internals.access import models
from tfdist.process.errors import UsageError
from tfdist.process.log import say
from tfdist.strategy import choose as strategy


def for_strategy(data, model, method=None):
    """Gives the input as the model's strategy needs it: on a TPU every share has the same number of rows.

    A smaller batch is padded with rows that count zero: in losses, metrics and synchronised batch statistics. Where a
    model takes a mean of its own over the rows, they cannot be left out of it: then training leaves that batch out.

    Args:
        data: an `Input`.
        model: a `keras.Model`.
        method: what will run on the data: "train_step", "test_step", or None for a prediction, which takes no mean.

    Returns:
        An `Input`.

    Raises:
        ValueError: the batches have no fixed shape; or one needs padding, and can neither be padded nor left out.
    """
    if not strategy.needs_static_shapes(model.distribute_strategy):
        return data
    replicas = model.distribute_strategy.num_replicas_in_sync
    static = _static(data.source)
    if not static.form(replicas).padded:
        return dataclasses.replace(data, source=static)
    reason = models.cannot_be_padded(model, method) if method else None
    if reason is None:
        say(f"{static.name}: smaller batches are padded with rows that count zero, for a TPU needs one shape.")
        return dataclasses.replace(data, source=static)
    dropped = _without_smaller(static, replicas) if method == "train_step" else None
    if dropped is None:
        raise UsageError(
            f"{static.name}: a TPU needs batches of one shape, and {reason} takes a mean from which rows that pad a "
            f"smaller batch cannot be left out. Use batches that {replicas} replicas divide, all of one size."
        )
    say(
        f"{static.name}: the last, smaller batch of each epoch is left out, for a TPU needs one shape, and {reason} "
        "takes a mean from which rows that pad it could not be left out."
    )
    return dataclasses.replace(data, source=dropped)


def _static(source):
    if isinstance(source, Source):
        return dataclasses.replace(source, static_shapes=True)
    return source.with_static_shapes()


def _without_smaller(source, replicas):
    """Gives a `Source` without the last, smaller batch, where that makes all alike; else None."""
    if not isinstance(source, Source) or source.global_batch % replicas or source.global_batch > source.rows:
        return None
    return dataclasses.replace(source, plan=dataclasses.replace(source.plan, drop_remainder=True))
