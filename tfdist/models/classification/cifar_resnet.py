"""The small ResNets for 32x32 images: He et al. 2015, arXiv:1512.03385, section 4.2."""

from collections.abc import Sequence

import keras

from tfdist.models.checks import check_classes, check_image, check_weight_decay
from tfdist.models.layers import ConvNorm, relu, softmax_head

# The first convolution keeps the size, the second and third stage halve it.
_TOTAL_STRIDE = 4
_WIDTHS = (16, 32, 64)


def resnet20(classes: int, input_shape: Sequence[int], *, weight_decay: float = 0.0) -> keras.Model:
    """Builds the 20-layer CIFAR ResNet: three stages of three blocks, shortcuts of option A.

    Args:
        classes: Number of classes, at least 2.
        input_shape: (H, W, C), at least 4 x 4 pixels.
        weight_decay: L2 penalty on the kernels, whose gradient is `weight_decay * kernel`; the
            paper trains with 1e-4.

    Returns:
        An uncompiled model from (B, H, W, C) to probabilities (B, classes).

    Raises:
        ValueError: An argument is out of its range.

    Example:
        ```python
        from tfdist import models

        model = models.resnet20(10, (32, 32, 3), weight_decay=1e-4)
        ```
    """
    return _build("resnet20", 3, classes, input_shape, weight_decay=weight_decay)


def resnet32(classes: int, input_shape: Sequence[int], *, weight_decay: float = 0.0) -> keras.Model:
    """Builds the 32-layer CIFAR ResNet: three stages of five blocks. Arguments as `resnet20`'s."""
    return _build("resnet32", 5, classes, input_shape, weight_decay=weight_decay)


def resnet56(classes: int, input_shape: Sequence[int], *, weight_decay: float = 0.0) -> keras.Model:
    """Builds the 56-layer CIFAR ResNet: three stages of nine blocks. Arguments as `resnet20`'s."""
    return _build("resnet56", 9, classes, input_shape, weight_decay=weight_decay)


def _build(name: str, blocks: int, classes: int, input_shape: Sequence[int], *, weight_decay: float) -> keras.Model:
    check_classes(name, classes)
    cure = "Give larger images, or build a cnn or an mlp."
    shape = check_image(name, input_shape, smallest=_TOTAL_STRIDE, cure=cure)
    check_weight_decay(name, weight_decay)
    conv = ConvNorm(weight_decay=weight_decay)
    inputs = keras.Input(shape, name="inputs")
    x = relu(conv(inputs, _WIDTHS[0], kernel=3, name="stem"), "stem_relu")
    for stage, width in enumerate(_WIDTHS, start=1):
        for block in range(1, blocks + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            x = _block(conv, x, width, stride, f"stage{stage}_block{block}")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = softmax_head(x, classes, weight_decay=weight_decay, kernel_initializer="he_normal")
    return keras.Model(inputs, outputs, name=name)


def _block(conv: ConvNorm, x: keras.KerasTensor, width: int, stride: int, name: str) -> keras.KerasTensor:
    y = conv(x, width, kernel=3, stride=stride, name=f"{name}_conv1")
    y = relu(y, f"{name}_relu1")
    y = conv(y, width, kernel=3, name=f"{name}_conv2")
    y = keras.layers.Add(name=f"{name}_add")([_shortcut(x, width, stride), y])
    return relu(y, f"{name}_out")


def _shortcut(x: keras.KerasTensor, width: int, stride: int) -> keras.KerasTensor:
    """Returns the shortcut of option A, without parameters: every second pixel, and zeros for the new channels."""
    if stride == 1:
        return x
    x = x[:, ::stride, ::stride, :]
    return keras.ops.pad(x, ((0, 0), (0, 0), (0, 0), (0, width - x.shape[-1])))
