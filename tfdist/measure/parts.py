"""Computes the seconds of a step's parts from those of loops that hold more and more of it; plain arithmetic."""

import dataclasses

from tfdist.measure.summary import summarize

# The loops of `tfdist.measure.split`; the last one holds everything except what `fit` does between calls.
LOOPS = ("compute", "alone", "reduce", "kept", "read")


def attribute(*, compute, alone, reduce, kept, read, fit):
    """Returns for each part of a step how much longer the loops with it take than those without it.

    This is the only definition of the parts of a step's time. `compute` and `update` are what one device must do too,
    and `reduce` is what several replicas must do in addition. Everything else is the **overhead** of training with
    tfdist: `input`, what reading the next batch adds to a step (reading ahead hides the rest); `wait`, what a step
    takes beyond its parts, such as waiting for a slower worker; `host`, what `fit` does between calls. A round has
    noise, so a difference may be below zero.

    Args:
        compute: seconds of the gradients of one kept batch, as the step has them: factors are not multiplied yet.
        alone: seconds of the same and an update with sums that exist already: a step without a reduction.
        reduce: seconds of the reduction alone, the same function that the step calls on gradients of the same form:
            rounding, all-reduce, and gathering and multiplying factors, which cannot be separated.
        kept: seconds of the whole step on a kept batch.
        read: seconds of the whole step on batches that are read.
        fit: seconds of a step of `fit`.

    Returns:
        dict: part → seconds; `whole` is the sum of all but `overhead`.
    """
    return {
        "input": read - kept,
        "compute": compute,
        "update": alone - compute,
        "reduce": reduce,
        "wait": kept - alone - reduce,
        "host": fit - read,
        "overhead": fit - alone - reduce,
        "whole": fit,
    }


def split(samples):
    """Returns the parts over some rounds; differences are taken within a round, so that a drift affects both times.

    Args:
        samples: dict: loop, or "fit" → seconds of a step, round by round.

    Returns:
        dict: part → `Summary` as a dict, of its seconds.
    """
    rows = [attribute(**dict(zip(samples, values, strict=True))) for values in zip(*samples.values(), strict=True)]
    return {part: dataclasses.asdict(summarize([row[part] for row in rows])) for part in rows[0]}


def part_of_step(found, part):
    """Returns the fraction of a step that a part takes, as a ratio of medians.

    Args:
        found: the result of `split`.
        part: one of its keys.
    """
    return found[part]["median"] / found["whole"]["median"]
