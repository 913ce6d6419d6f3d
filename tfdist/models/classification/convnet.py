"""The classic small convolutional network."""

from collections.abc import Sequence

import keras

from tfdist.models.checks import check_classes, check_dropout, check_flag, check_image, check_weight_decay, check_widths
from tfdist.models.layers import batchnorm, drop, l2, relu, softmax_head
from tfdist.process.errors import UsageError


def cnn(
    classes: int,
    input_shape: Sequence[int],
    *,
    filters: Sequence[int] = (32,),
    dense: int = 128,
    dropout: float = 0.0,
    batch_norm: bool = False,
    weight_decay: float = 0.0,
) -> keras.Model:
    """Builds 3x3 convolutions without padding, each with ReLU and a 2x2 max pool; dense; softmax.

    Args:
        classes: Number of classes, at least 2.
        input_shape: (H, W, C); the default network suits 8x8 digits as well as 28x28 ones.
        filters: Widths of the convolutions in order, at least one.
        dense: Width D of the ReLU layer before the softmax.
        dropout: Rate of the dropout after it, the same on any number of replicas.
        batch_norm: BatchNorm, in place of a bias, between each convolution and its ReLU.
        weight_decay: L2 penalty on the kernels, whose gradient is `weight_decay * kernel`.

    Returns:
        An uncompiled model from (B, H, W, C) to probabilities (B, classes).

    Raises:
        ValueError: An argument is out of its range, or the image too small for the depth.

    Example:
        ```python
        from tfdist import models

        model = models.cnn(10, (28, 28, 1), filters=(32, 64), dropout=0.5)
        ```
    """
    check_classes("cnn", classes)
    widths = check_widths("cnn", "filters", filters)
    check_widths("cnn", "dense", (dense,))
    check_flag("cnn", "batch_norm", batch_norm)
    check_dropout("cnn", dropout)
    check_weight_decay("cnn", weight_decay)
    shape = _check_image(input_shape, widths)
    inputs = keras.Input(shape, name="inputs")
    x = inputs
    for number, width in enumerate(widths, start=1):
        x = _conv_pool(
            x,
            width,
            batch_norm=batch_norm,
            weight_decay=weight_decay,
            name=f"conv{number}",
        )
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(dense, activation="relu", kernel_regularizer=l2(weight_decay), name="dense")(x)
    x = drop(x, dropout, name="dropout")
    outputs = softmax_head(x, classes, weight_decay=weight_decay)
    return keras.Model(inputs, outputs, name="cnn")


def _conv_pool(
    x: keras.KerasTensor, width: int, *, batch_norm: bool, weight_decay: float, name: str
) -> keras.KerasTensor:
    x = keras.layers.Conv2D(
        width,
        3,
        use_bias=not batch_norm,
        kernel_regularizer=l2(weight_decay),
        name=name,
    )(x)
    if batch_norm:
        x = batchnorm(x, name=f"{name}_norm")
    x = relu(x, f"{name}_relu")
    return keras.layers.MaxPooling2D(name=f"{name}_pool")(x)


def _check_image(input_shape: Sequence[int], widths: tuple[int, ...]) -> tuple[int, ...]:
    if not widths:
        raise UsageError("models: cnn: filters is (). Give at least one width, or build an mlp.")
    smallest = 1
    for _ in widths:
        # Counted backwards: the pool halves, the unpadded 3x3 convolution removes one pixel on each side.
        smallest = 2 * smallest + 2
    cure = f"Give larger images, or fewer filters than the {len(widths)} in {widths}."
    return check_image("cnn", input_shape, smallest=smallest, cure=cure)
