"""Networks of `keras.applications`, with heads, dropout and statistics like those of the other models here.

Their inputs are scaled like the other models' inputs, because no network scales them itself.
"""

from collections.abc import Sequence
from typing import Any

import keras

from tfdist.models.checks import check_classes, check_dropout, check_factor, check_image, check_widths
from tfdist.models.dropout import RowDropout
from tfdist.models.layers import BATCHNORM_MOMENTUM, drop, softmax_head

# The product of a network's strides; `keras.applications` refuses smaller images.
_SMALLEST = 32
_CURE = "Give larger images, or build a resnet20 or a cnn."


def vgg16(
    classes: int, input_shape: Sequence[int], *, dense: Sequence[int] = (4096, 4096), dropout: float = 0.5
) -> keras.Model:
    """Builds VGG-16: Simonyan and Zisserman 2014, arXiv:1409.1556, table 1, column D.

    Args:
        classes: Number of classes, at least 2.
        input_shape: (H, W, C), at least 32 x 32 pixels.
        dense: Widths of the ReLU layers before the softmax, in order; they hold most of the parameters.
        dropout: Rate of the dropout after each of them, the same on any number of replicas.

    Returns:
        An uncompiled model from (B, H, W, C) to probabilities (B, classes).

    Raises:
        ValueError: An argument is out of its range.

    Example:
        ```python
        from tfdist import models

        model = models.vgg16(10, (32, 32, 3), dense=(512,))
        ```
    """
    inputs = _check("vgg16", classes, input_shape, dropout=dropout)
    widths = check_widths("vgg16", "dense", dense)
    x = keras.applications.VGG16(include_top=False, weights=None, input_tensor=inputs).output
    x = keras.layers.Flatten(name="flatten")(x)
    for number, width in enumerate(widths, start=1):
        x = keras.layers.Dense(width, activation="relu", name=f"dense{number}")(x)
        x = drop(x, dropout, name=f"dropout{number}")
    return keras.Model(inputs, softmax_head(x, classes), name="vgg16")


def mobilenet_v2(classes: int, input_shape: Sequence[int], *, width: float = 1.0, dropout: float = 0.2) -> keras.Model:
    """Builds MobileNetV2: Sandler et al. 2018, arXiv:1801.04381, table 2.

    Args:
        classes: Number of classes, at least 2.
        input_shape: (H, W, C), at least 32 x 32 pixels.
        width: Factor of the numbers of channels; the paper has 0.35 to 1.4.
        dropout: Rate of the dropout before the softmax, the same on any number of replicas.

    Returns:
        An uncompiled model from (B, H, W, C) to probabilities (B, classes).

    Raises:
        ValueError: An argument is out of its range.

    Example:
        ```python
        from tfdist import models

        model = models.mobilenet_v2(10, (32, 32, 3), width=0.35)
        ```
    """
    inputs = _check("mobilenet_v2", classes, input_shape, dropout=dropout)
    check_factor("mobilenet_v2", "width", width)
    network = keras.applications.MobileNetV2(include_top=False, weights=None, input_tensor=inputs, alpha=width)
    # With Keras' 0.999, evaluation would lag thousands of steps behind. torchvision's recipe has 0.9, as the ResNets.
    _set_statistics(network, momentum=BATCHNORM_MOMENTUM)
    x = _pooled(network.output, dropout)
    return keras.Model(inputs, softmax_head(x, classes), name="mobilenet_v2")


def efficientnet_b0(
    classes: int, input_shape: Sequence[int], *, dropout: float = 0.2, stochastic_depth: float = 0.2
) -> keras.Model:
    """Builds EfficientNet-B0: Tan and Le 2019, arXiv:1905.11946, table 1.

    Args:
        classes: Number of classes, at least 2.
        input_shape: (H, W, C), at least 32 x 32 pixels.
        dropout: Rate of the dropout before the softmax.
        stochastic_depth: Rate at which a row skips the last block; it falls linearly to 0 at the first one. Both are
            the same on any number of replicas.

    Returns:
        An uncompiled model from (B, H, W, C) to probabilities (B, classes).

    Raises:
        ValueError: An argument is out of its range.

    Example:
        ```python
        from tfdist import models

        model = models.efficientnet_b0(10, (32, 32, 3))
        ```
    """
    inputs = _check("efficientnet_b0", classes, input_shape, dropout=dropout, stochastic_depth=stochastic_depth)
    network = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=inputs.shape[1:])
    # What comes before divides by 255 and subtracts a mean.
    network = keras.Model(network.get_layer("stem_conv_pad").input, network.output)
    copied = keras.models.clone_model(network, inputs, clone_function=lambda layer: _skipping(layer, stochastic_depth))
    _set_statistics(copied)
    x = _pooled(copied.output, dropout)
    return keras.Model(inputs, softmax_head(x, classes), name="efficientnet_b0")


def _check(name: str, classes: int, input_shape: Sequence[int], **rates: float) -> keras.KerasTensor:
    """Returns the network's input; raises ValueError for an argument that is out of its range."""
    check_classes(name, classes)
    shape = check_image(name, input_shape, smallest=_SMALLEST, cure=_CURE)
    for option, rate in rates.items():
        check_dropout(name, rate, option)
    return keras.Input(shape, name="inputs")


def _set_statistics(network: keras.Model, **attributes: Any) -> None:
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # For loops written by hand, because `fit` decides for itself.
            layer.synchronized = True
            for name, value in attributes.items():
                setattr(layer, name, value)


def _pooled(x: keras.KerasTensor, dropout: float) -> keras.KerasTensor:
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return drop(x, dropout, name="dropout")


def _skipping(layer: keras.layers.Layer, stochastic_depth: float) -> keras.layers.Layer:
    """Returns a copy of a layer; of Keras' dropout of whole rows, one that is the same on any number of replicas."""
    if not isinstance(layer, keras.layers.Dropout):
        return layer.__class__.from_config(layer.get_config())
    # Keras' rates rise linearly to 0.2.
    rate = layer.rate / 0.2 * stochastic_depth
    return RowDropout(rate, whole_rows=True, name=layer.name) if rate else keras.layers.Identity(name=layer.name)
