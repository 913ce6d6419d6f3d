"""Describes a run in JSON types, so that a checkpoint can report what has changed."""

import tensorflow as tf

from tfdist.data.delivery.share import is_absent_spec
from tfdist.data.source import Source


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
    return known | {"steps_per_epoch": data.steps, "types": spec}


def of_run(trained):
    """Describes what a `saved_run.Trained` computes besides its variables: the loss and the optimizer's settings.

    The learning rate is left out: it is a variable of the optimizer, or a schedule that callbacks may replace.
    """
    optimizer = trained.optimizer
    return {
        "loss": _text(trained.loss),
        "optimizer": None if optimizer is None else _text(_settings(optimizer)),
    }


def _settings(optimizer):
    config = {name: value for name, value in optimizer.get_config().items() if name not in ("learning_rate", "name")}
    if hasattr(optimizer, "inner_optimizer"):
        config["inner_optimizer"] = _settings(optimizer.inner_optimizer)
    return {"class": type(optimizer).__name__, **config}


def _spec_text(spec):
    if is_absent_spec(spec):
        return "nothing"
    # Without the number of rows, which is known for some data and changes with the global batch.
    return f"{spec.dtype.name} {tuple(spec.shape[1:].as_list() if spec.shape.rank else [])}"


def _text(value):
    """Returns a loss, a setting, or several, as text that is the same in every process."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={_text(item)}" for name, item in sorted(value.items()))
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    if value is None or isinstance(value, bool | int | float | str):
        return str(value)
    if hasattr(value, "get_config"):
        return f"{type(value).__name__}({_config_text(value)})"
    return getattr(value, "__qualname__", type(value).__name__)


def _config_text(value):
    try:
        return _text(value.get_config())
    except (NotImplementedError, TypeError, ValueError):
        # A user's own class need not support `get_config`.
        return ""
