"""What a run's `StartOptions` do with its model before the first step."""

import re

from tfdist.callbacks.thaw import Thaw
from tfdist.checkpoints.warm_start import load_matching_weights
from tfdist.internals.access import layer_paths, models
from tfdist.process.errors import UsageError
from tfdist.process.log import say
from tfdist.process.nearest import did_you_mean
from tfdist.strategy.workers import Workers

# How many layers a message names.
_MOST = 12


def prepare(model, options, spec, *, is_fresh):
    """Reads weights, adds LoRA and freezes layers, as the options say; every worker calls it.

    Args:
        model: a compiled `keras.Model` in its strategy.
        options: the `StartOptions`.
        spec: nested `tf.TensorSpec`s of a batch, first dimension None.
        is_fresh: whether the run has no checkpoint to resume from, whose weights would win.

    Returns:
        The callbacks that the options need: a list of none or one.

    Raises:
        ValueError: a pattern matches no layer, or the weights do not match.
    """
    models.build_layers(model, spec)
    if options.init_from is not None and is_fresh:
        _say(model, f"init_from {load_matching_weights(model, options.init_from)}")
    with model.distribute_strategy.scope():
        if options.lora_rank is not None:
            _add_lora(model, options.lora_rank, options.lora_layers)
        return _freeze(model, options.freeze, options.thaw_epoch) if options.freeze else []


def _freeze(model, patterns, thaw_epoch):
    before = layer_paths.trainable_state(model)
    found = _matching("freeze", patterns, layer_paths.layer_paths(model))
    if thaw_epoch is not None:
        if layer_paths.averages_weights(model):
            raise UsageError(
                "thaw_epoch and an optimizer with use_ema: the averages would change the frozen weights. Leave out one."
            )
        # While all is trainable, so that the optimizer has its state for what is trained later.
        layer_paths.build_optimizer(model)
    for _, layer in found:
        layer.trainable = False
    if not model.trainable_variables:
        raise UsageError(
            f"freeze is {patterns!r}, which leaves no weight to train. Use patterns that leave out some layers, such "
            "as the last one."
        )
    _say(model, f"freeze: {len(found)} layers; {_trained(model)}.")
    return [] if thaw_epoch is None else [Thaw(thaw_epoch, before)]


def _add_lora(model, rank, patterns):
    layers = [(path, layer) for path, layer in layer_paths.layer_paths(model) if layer_paths.takes_lora(layer)]
    if not layers:
        raise UsageError(
            f"lora_rank is {rank}, but the model has no Dense, EinsumDense or Embedding layer. Leave it out."
        )
    chosen = _matching("lora_layers", patterns, layers, " that can have LoRA") if patterns else layers
    for path, layer in chosen:
        try:
            layer.enable_lora(rank)
        except (ValueError, NotImplementedError) as error:
            raise UsageError(
                f"lora_rank: layer {path!r} cannot have LoRA: {error} Leave it out of lora_layers."
            ) from None
    _say(model, f"lora_rank {rank}: {len(chosen)} layers; {_trained(model)}.")


def _trained(model):
    return f"{len(model.trainable_variables)} of {len(model.weights)} weights are trained"


def _say(model, line):
    if Workers.of(model.distribute_strategy).is_chief:
        say(line)


def _matching(name, patterns, layers, kind=""):
    """Returns the (path, layer) whose path has one of the patterns in it; the kind of layers is for the message."""
    for pattern in patterns:
        if not any(re.search(pattern, path) for path, _ in layers):
            paths = [path for path, _ in layers]
            hint = (
                did_you_mean(pattern, paths) or f" There are: {', '.join(paths[:_MOST])}{', …' * (len(paths) > _MOST)}."
            )
            raise UsageError(f"{name}: {pattern!r} is in the path of no layer{kind}.{hint}")
    return [(path, layer) for path, layer in layers if any(re.search(pattern, path) for pattern in patterns)]
