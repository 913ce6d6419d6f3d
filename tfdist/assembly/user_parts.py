"""What the functions of a recipe make: transforms of the data, callbacks, the loss and the metrics."""

import inspect

import keras

from tfdist.process.errors import UsageError, user_code


def make_transforms(config):
    """Makes the functions (batch, row_seeds) → batch of a config.

    Returns:
        (the list for the training split, the list for the others), in the order in which they are applied.
    """
    every, training, others = (
        _made_transforms(config, name) for name in ("preprocessing", "augmentation", "test_preprocessing")
    )
    return [*every, *training], [*every, *others]


def _made_transforms(config, name):
    use = "a function (batch, row_seeds) → batch, or a list of such"
    made = _made(config, name, _are_transforms, use)
    return made if isinstance(made, list | tuple) else [made]


def make_own_callbacks(config):
    """Makes the callbacks of a config."""
    return list(_made(config, "callbacks", _are_callbacks, "a list of Keras callbacks"))


def make_loss(config):
    """Returns what `keras.Model.compile` takes as the loss; must be called in the strategy's scope."""
    loss = config.loss
    if not _needs_no_argument(loss):
        return loss
    kinds = "a name, a function (y_true, y_pred) or a keras.losses.Loss"
    return _made(config, "loss", lambda loss: isinstance(loss, str) or callable(loss), kinds)


def make_metrics(config):
    """Returns what `keras.Model.compile` takes as the metrics; must be called in the strategy's scope."""
    if not callable(config.metrics):
        return list(config.metrics)
    return list(_made(config, "metrics", lambda metrics: isinstance(metrics, list | tuple), "a list of metrics"))


def _made(config, name, is_right, use):
    """Returns what a function of the config returns; an empty tuple without the function.

    Args:
        config: the `RunConfig`.
        name: the field's name.
        is_right: a function (what was returned) → whether it can be used.
        use: what can be used, for the message.
    """
    function = getattr(config, name)
    if function is None:
        return ()
    with user_code(function):
        made = function()
    if not is_right(made):
        raise UsageError(f"{name} returned {made!r}. Return {use}.")
    return made


def _are_transforms(made):
    return all(map(callable, made)) if isinstance(made, list | tuple) else callable(made)


def _are_callbacks(made):
    return isinstance(made, list | tuple) and all(isinstance(item, keras.callbacks.Callback) for item in made)


def _needs_no_argument(loss):
    """Returns whether a loss is a function () → loss, or a class of losses, whose settings have defaults."""
    if not callable(loss):
        return False
    try:
        inspect.signature(loss).bind()
    except (TypeError, ValueError):
        return False
    return True
