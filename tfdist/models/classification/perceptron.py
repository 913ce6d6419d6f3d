"""The multi-layer perceptron."""

from collections.abc import Sequence

import keras

from tfdist.models.checks import check_classes, check_dropout, check_shape, check_weight_decay, check_widths
from tfdist.models.layers import drop, l2, softmax_head


def mlp(
    classes: int,
    input_shape: Sequence[int],
    *,
    hidden: Sequence[int] = (128,),
    dropout: float = 0.0,
    weight_decay: float = 0.0,
) -> keras.Model:
    """Builds flatten, dense ReLU layers, softmax.

    Args:
        classes: Number of classes, at least 2.
        input_shape: Shape of one row, of any rank.
        hidden: Widths D of the ReLU layers in order; none gives softmax regression.
        dropout: Rate of the dropout after each of them, the same on any number of replicas.
        weight_decay: L2 penalty on the kernels, whose gradient is `weight_decay * kernel`.

    Returns:
        An uncompiled model from (B, *input_shape) to probabilities (B, classes).

    Raises:
        ValueError: An argument is out of its range.

    Example:
        ```python
        from tfdist import models

        model = models.mlp(10, (8, 8, 1))
        ```
    """
    check_classes("mlp", classes)
    shape = check_shape("mlp", input_shape)
    widths = check_widths("mlp", "hidden", hidden)
    check_dropout("mlp", dropout)
    check_weight_decay("mlp", weight_decay)
    inputs = keras.Input(shape, name="inputs")
    x = keras.layers.Flatten(name="flatten")(inputs)
    for number, width in enumerate(widths, start=1):
        x = keras.layers.Dense(width, activation="relu", kernel_regularizer=l2(weight_decay), name=f"hidden{number}")(x)
        x = drop(x, dropout, name=f"dropout{number}")
    outputs = softmax_head(x, classes, weight_decay=weight_decay)
    return keras.Model(inputs, outputs, name="mlp")
