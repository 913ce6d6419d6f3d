"""Moving averages of the weights, where an optimizer keeps them: what validations see."""

import keras

from tfdist.internals.access.layer_paths import averages_weights


def make_swaps(model):
    """Makes the callbacks with which validations see the moving averages of the weights, if the optimizer keeps them.

    At the end of `fit`, Keras writes the averages over the weights, so that the last evaluation and `model.keras` have
    them too; checkpoints are saved before, with both.

    Args:
        model: a compiled `keras.Model`.
    """
    return [keras.callbacks.SwapEMAWeights()] if averages_weights(model) else []
