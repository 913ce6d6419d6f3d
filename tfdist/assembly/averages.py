"""Moving averages of the weights, where an optimizer keeps them: what validations see."""

import keras


def make_swaps(model):
    """Makes the callbacks with which validations see the moving averages of the weights, if the optimizer keeps them.

    At the end of `fit`, Keras writes the averages over the weights, so that the last evaluation and `model.keras` have
    them too; checkpoints are saved before, with both.

    Args:
        model: a compiled `keras.Model`.
    """
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    return [keras.callbacks.SwapEMAWeights()] if getattr(optimizer, "use_ema", False) else []
