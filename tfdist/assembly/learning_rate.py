"""The learning rate of a run as its config gives it: scaled to the global batch, warmed up, and along its schedule."""

import math

from keras.optimizers.schedules import CosineDecay, PiecewiseConstantDecay

from tfdist.optimizers import WarmUp, describe, scale_learning_rate, warmup_steps


def make_learning_rate(config, *, rows, steps_per_epoch):
    """Derives the learning rate of a run, and what a line says of it.

    Args:
        config: the `RunConfig`, with a `learning_rate`.
        rows: rows of the training set.
        steps_per_epoch: steps of an epoch.

    Returns:
        (a float or a Keras schedule; a line, or "" for a rate that is used as it is given).
    """
    schedule, batch = config.schedule, config.global_batch
    base = {"base_batch": config.base_batch or batch, "rule": config.scaling}
    warmup = {"epochs": schedule.warmup_epochs, "rows": rows} if schedule.warmup_epochs else {}
    steps = warmup_steps(global_batch=batch, **warmup) if warmup else 0
    rate = scale_learning_rate(config.learning_rate, global_batch=batch, **base)
    after, phrase = _DECAYS[schedule.kind](config, rate, steps, steps_per_epoch)
    if schedule.kind != "cosine" and warmup:
        after = WarmUp(after, global_batch=batch, **warmup)
    said = config.base_batch or warmup or phrase
    line = describe(config.learning_rate, global_batch=batch, **base, **warmup) + phrase if said else ""
    return after, line


def _constant(config, rate, warmup, steps_per_epoch):
    del config, warmup, steps_per_epoch
    return rate, ""


def _cosine(config, rate, warmup, steps_per_epoch):
    """Returns Keras' schedule, whose own warm-up ends at the beginning of the cosine, and a phrase."""
    total = config.total_steps(steps_per_epoch)
    ratio = config.schedule.final_rate / config.learning_rate
    # A warm-up as long as the run has no cosine after it; a warning says so.
    decay = {"decay_steps": max(total - warmup, 1), "alpha": ratio}
    phrase = f", cosine to {ratio * rate:g} over {total} steps"
    if not warmup:
        return CosineDecay(rate, **decay), phrase
    return CosineDecay(0.0, **decay, warmup_target=rate, warmup_steps=warmup), phrase


def _step(config, rate, warmup, steps_per_epoch):
    del warmup
    epochs, factor = config.schedule.step_epochs, config.schedule.step_factor
    # Keras' boundary is the last step of the old rate.
    boundaries = [math.ceil(epoch * steps_per_epoch) - 1 for epoch in epochs]
    values = [rate * factor**times for times in range(len(epochs) + 1)]
    places = ", ".join(f"{epoch:g}" for epoch in epochs)
    return PiecewiseConstantDecay(boundaries, values), f", times {factor:g} at epoch{'s' * (len(epochs) > 1)} {places}"


# Kind → function (config, scaled rate, steps of the warm-up, steps of an epoch) → (rate or Keras schedule, phrase).
_DECAYS = {"constant": _constant, "cosine": _cosine, "step": _step}
