"""Seconds of loops that hold more and more of a step → seconds of its parts; plain arithmetic."""

import dataclasses

from tfdist.measure.summary import summarise

# What `tfdist.measure.split` can loop over; the last one holds all but what `fit` does between calls.
LOOPS = ("compute", "alone", "reduce", "kept", "read")


def attribute(*, compute, alone, reduce, kept, read, fit):
    """Gives each part of a step what the loops that hold it take more than those that do not.

    The one definition of what a step's time is made of. `compute` and `update` are what one device must do too,
    `reduce` is what the replicas must do because they are several. All else is the **overhead** of training the way
    tfdist does: `input`, what reading the next batch adds to a step, for reading ahead hides the rest; `wait`, what a
    step takes beyond its parts, such as workers waiting for the slower one; `host`, what `fit` does between calls. One
    round has noise, so a difference may be below zero.

    Args:
        compute: seconds of the gradients of one kept batch, as the step has them: factors are not multiplied yet.
        alone: of the same and an update with sums that are there already: a step in which nothing is reduced.
        reduce: of the reduction alone, the very function that the step calls on gradients of the same form: rounding,
            all-reduce, gathering factors and multiplying them, which cannot be told apart.
        kept: of the whole step on a kept batch.
        read: of the whole step on batches that are read.
        fit: of a step of `fit`.

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
    """Gives the parts over some rounds; differences are taken within each round, so that a drift meets both alike.

    Args:
        samples: dict: loop, or "fit" → seconds of a step, round by round.

    Returns:
        dict: part → `Summary` as a dict, of its seconds.
    """
    rows = [attribute(**dict(zip(samples, values, strict=True))) for values in zip(*samples.values(), strict=True)]
    return {part: dataclasses.asdict(summarise([row[part] for row in rows])) for part in rows[0]}


def part_of_step(found, part):
    """Gives how much of a step a part is, as medians.

    Args:
        found: what `split` gives.
        part: one of its names.
    """
    return found[part]["median"] / found["whole"]["median"]
