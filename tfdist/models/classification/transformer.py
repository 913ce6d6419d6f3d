"""Vision transformers: Dosovitskiy et al. 2021, arXiv:2010.11929, table 1; Ti and S: Touvron et al. 2021, 2012.12877.

With `position="sincos", pool="average"` they are the plain baselines of Beyer et al. 2022, arXiv:2205.01580, whose
ViT-S/16 reaches 76.5 % on ImageNet in 90 epochs. As in their code, the classifier starts at zero.
"""

import math
from collections.abc import Sequence

import keras

from tfdist.models.checks import check_choice, check_classes, check_dropout, check_image
from tfdist.models.layers import drop, softmax_head
from tfdist.models.positions import ClassToken, LearnedPositions, SinCosPositions
from tfdist.process.errors import UsageError

_PATCH = 16
_EPSILON = 1e-6
POSITIONS, POOLS = ("learned", "sincos"), ("token", "average")
# Name → layers, width, heads.
_SIZES = {"vit_ti16": (12, 192, 3), "vit_s16": (12, 384, 6), "vit_b16": (12, 768, 12)}


def vit_ti16(
    classes: int, input_shape: Sequence[int], *, position: str = "learned", pool: str = "token", dropout: float = 0.0
) -> keras.Model:
    """Builds ViT-Ti/16, of 12 layers of width 192. Arguments as `vit_s16`'s."""
    return _build("vit_ti16", classes, input_shape, position, pool, dropout)


def vit_s16(
    classes: int, input_shape: Sequence[int], *, position: str = "learned", pool: str = "token", dropout: float = 0.0
) -> keras.Model:
    """Builds ViT-S/16: patches of 16 x 16 pixels as tokens, and 12 layers of width 384 with 6 heads.

    Args:
        classes: Number of classes, at least 2.
        input_shape: (H, W, C); H and W are multiples of 16.
        position: "learned" vectors, or "sincos" of the place.
        pool: What the softmax sees: a class "token", or the "average" of all tokens.
        dropout: Rate of the dropout after each layer but those of queries, keys and values; the same on any number of
            replicas.

    Returns:
        An uncompiled model from (B, H, W, C) to probabilities (B, classes).

    Raises:
        ValueError: An argument is out of its range.

    Example:
        ```python
        from tfdist import models

        model = models.vit_s16(10, (32, 32, 3), position="sincos", pool="average")
        ```
    """
    return _build("vit_s16", classes, input_shape, position, pool, dropout)


def vit_b16(
    classes: int, input_shape: Sequence[int], *, position: str = "learned", pool: str = "token", dropout: float = 0.0
) -> keras.Model:
    """Builds ViT-B/16, of 12 layers of width 768. Arguments as `vit_s16`'s."""
    return _build("vit_b16", classes, input_shape, position, pool, dropout)


def _build(
    name: str, classes: int, input_shape: Sequence[int], position: str, pool: str, dropout: float
) -> keras.Model:
    layers, width, heads = _SIZES[name]
    check_classes(name, classes)
    check_choice(name, "position", position, POSITIONS)
    check_choice(name, "pool", pool, POOLS)
    check_dropout(name, dropout)
    inputs = keras.Input(_check_image(name, input_shape), name="inputs")
    x = _tokens(inputs, width, position, pool)
    x = drop(x, dropout, name="dropout")
    for number in range(1, layers + 1):
        x = _layer(x, heads, dropout, f"layer{number}")
    x = keras.layers.LayerNormalization(epsilon=_EPSILON, name="norm")(x)
    x = x[:, 0] if pool == "token" else keras.layers.GlobalAveragePooling1D(name="pool")(x)
    return keras.Model(inputs, softmax_head(x, classes, kernel_initializer="zeros"), name=name)


def _check_image(name: str, input_shape: Sequence[int]) -> tuple[int, ...]:
    shape = check_image(name, input_shape, smallest=_PATCH, cure="Give larger images.")
    if any(side % _PATCH for side in shape[:2]):
        raise UsageError(
            f"models: {name}: input_shape is {shape}, but the image is cut into patches of {_PATCH} x {_PATCH} pixels. "
            f"Give a height and a width that are multiples of {_PATCH}."
        )
    return shape


def _tokens(inputs: keras.KerasTensor, width: int, position: str, pool: str) -> keras.KerasTensor:
    """Returns a token a patch (B, T, width) that knows its place, with the class token in front if there is one."""
    x = keras.layers.Conv2D(width, _PATCH, strides=_PATCH, kernel_initializer="lecun_normal", name="patches")(inputs)
    rows = x.shape[1]
    x = keras.layers.Reshape((-1, width), name="tokens")(x)
    # The sines know the places of patches alone; a learned vector is the token's, too.
    if position == "sincos":
        x = SinCosPositions(rows, name="positions")(x)
    if pool == "token":
        x = ClassToken(name="class_token")(x)
    return LearnedPositions(name="positions")(x) if position == "learned" else x


def _layer(x: keras.KerasTensor, heads: int, dropout: float, name: str) -> keras.KerasTensor:
    """Returns what one layer of the encoder makes of tokens (B, T, D)."""
    width = x.shape[-1]
    y = keras.layers.LayerNormalization(epsilon=_EPSILON, name=f"{name}_norm1")(x)
    # Glorot's, but for matrices of D x D: Keras takes the axis of the heads for one of a convolution's window.
    limit = math.sqrt(6 / (2 * width))
    y = keras.layers.MultiHeadAttention(
        heads,
        width // heads,
        kernel_initializer=keras.initializers.RandomUniform(-limit, limit),
        name=f"{name}_attention",
    )(y, y)
    x = keras.layers.Add(name=f"{name}_add1")([x, drop(y, dropout, name=f"{name}_dropout1")])
    y = keras.layers.LayerNormalization(epsilon=_EPSILON, name=f"{name}_norm2")(x)
    y = keras.layers.Dense(4 * width, activation="gelu", name=f"{name}_dense1")(y)
    y = keras.layers.Dense(width, name=f"{name}_dense2")(drop(y, dropout, name=f"{name}_dropout2"))
    return keras.layers.Add(name=f"{name}_add2")([x, drop(y, dropout, name=f"{name}_dropout3")])
