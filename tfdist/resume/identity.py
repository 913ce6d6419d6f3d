"""Describes a run in JSON types, so that a checkpoint can report what has changed."""

import numpy as np
import tensorflow as tf

from tfdist.data.delivery.share import is_absent_spec
from tfdist.data.digest import digest_of_rows
from tfdist.data.source import Source
from tfdist.data.sources.arrays import RowReader
from tfdist.internals.access import models
from tfdist.resume.description import describe, describe_config, describe_model

# The rows of which a digest is compared.
_SAMPLED = 8


def of_data(data):
    """Describes the properties of an `Input`'s data that decide which rows come when.

    Returns:
        A dict in the order in which differences are best reported.
    """
    source = data.source
    spec = [_spec_text(part) for part in tf.nest.flatten(source.element_spec)]
    known = {"name": source.name, "batches": source.cardinality}
    if isinstance(source, Source):
        plan = source.plan
        known = {
            "name": source.name,
            "rows": plan.rows,
            "global_batch": plan.global_batch,
            "seed": plan.seed,
            "shuffle": plan.shuffle,
            "drop_remainder": plan.drop_remainder,
        }
    # Of data of unknown length, the number may be given only when the run resumes.
    is_known = data.steps is not None or isinstance(source, Source) or source.cardinality is not None
    return known | ({"steps_per_epoch": data.steps} if is_known else {}) | {"types": spec}


def of_rows(data, workers):
    """Describes some rows of an `Input` by a digest; all workers must call it.

    Nothing is read that may be read only once, and nothing is compared that is random.

    Args:
        data: an `Input`.
        workers: the `Workers`.

    Returns:
        The chief's digest, {"the values of some rows": "sha256 …"}; an empty dict without one.
    """
    rows = _sample(data) if workers.is_chief else None
    (number,) = workers.broadcast([-1.0 if rows is None else float(digest_of_rows(rows))])
    return {} if number < 0 else {"the values of some rows": f"sha256 {int(number):012x}"}


def _sample(data):
    source = data.source
    if not isinstance(source, Source):
        return data.first_rows() if data.first_rows and data.is_repeatable else None
    if isinstance(source.reader, RowReader):
        # From all over the data, and without the transformation, which may be random.
        places = np.linspace(0, source.rows - 1, min(_SAMPLED, source.rows))
        return source.reader.decode(tf.constant(places.astype(np.int64)))
    first, again = source.first_rows(_SAMPLED), source.first_rows(_SAMPLED)
    return first if digest_of_rows(first) == digest_of_rows(again) else None


def of_run(trained):
    """Describes what a `saved_run.Trained` computes besides its variables, as the script sets it before the first step.

    A learning rate that callbacks change later is no difference.
    """
    optimizer = trained.optimizer
    model = trained.parts["model"] if hasattr(trained, "parts") else trained
    about = {
        "loss": describe(trained.loss),
        "optimizer": None if optimizer is None else _describe_optimizer(optimizer),
        "model": describe_model(model),
    }
    # After steps in this process, callbacks may have changed the rate that the script has given.
    is_given = optimizer is not None and models.steps_done(trained) == 0
    return about | ({"learning_rate": _learning_rate(optimizer)} if is_given else {})


def _describe_optimizer(optimizer):
    config = describe_config(optimizer, without=("learning_rate", "name", "inner_optimizer")) or {}
    if hasattr(optimizer, "inner_optimizer"):
        config["inner_optimizer"] = _describe_optimizer(optimizer.inner_optimizer)
    return {"class": type(optimizer).__name__, **config}


def _learning_rate(optimizer):
    config = describe_config(getattr(optimizer, "inner_optimizer", optimizer)) or {}
    rate = config.get("learning_rate")
    # As the script has given it, and not as float32 holds it.
    return float(f"{rate:.7g}") if isinstance(rate, float) else rate


def _spec_text(spec):
    if is_absent_spec(spec):
        return "nothing"
    # Without the number of rows, which is known for some data and changes with the global batch.
    return f"{spec.dtype.name} {tuple(spec.shape[1:].as_list() if spec.shape.rank else [])}"
