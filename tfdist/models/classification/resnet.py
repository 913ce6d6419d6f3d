"""ResNets for ImageNet: He et al. 2015, arXiv:1512.03385, table 1, in the form called v1.5.

As trained by Goyal et al. 2017, arXiv:1706.02677, section 5.1: the stride of a bottleneck lies in
its 3x3 convolution, the last BatchNorm of each block starts with gamma 0, so that the block starts
as its shortcut, and the classifier's kernel starts with a standard deviation of 0.01.
"""

from collections.abc import Callable, Sequence

import keras

from tfdist.models.checks import check_classes, check_image, check_weight_decay
from tfdist.models.layers import ConvNorm, relu, softmax_head

# Stem 2, its pool 2, and three of the four stages 2 each.
_TOTAL_STRIDE = 32
_WIDTHS = (64, 128, 256, 512)

# (convolutions, input, width, stride, name) → output.
_Block = Callable[[ConvNorm, keras.KerasTensor, int, int, str], keras.KerasTensor]


def resnet18(classes: int, input_shape: Sequence[int], *, weight_decay: float = 0.0) -> keras.Model:
    """Builds ResNet-18, of blocks of two 3x3 convolutions. Arguments as `resnet50`'s."""
    return _build("resnet18", _basic, (2, 2, 2, 2), classes, input_shape, weight_decay=weight_decay)


def resnet34(classes: int, input_shape: Sequence[int], *, weight_decay: float = 0.0) -> keras.Model:
    """Builds ResNet-34, of blocks of two 3x3 convolutions. Arguments as `resnet50`'s."""
    return _build("resnet34", _basic, (3, 4, 6, 3), classes, input_shape, weight_decay=weight_decay)


def resnet50(classes: int, input_shape: Sequence[int], *, weight_decay: float = 0.0) -> keras.Model:
    """Builds ResNet-50, of bottlenecks: 1x1, 3x3, 1x1 convolutions.

    Args:
        classes: Number of classes, at least 2.
        input_shape: (H, W, C), at least 32 x 32 pixels.
        weight_decay: L2 penalty on the kernels, whose gradient is `weight_decay * kernel`; the
            papers train with 1e-4, on the kernels alone.

    Returns:
        An uncompiled model from (B, H, W, C) to probabilities (B, classes).

    Raises:
        ValueError: An argument is out of its range.

    Example:
        ```python
        from tfdist import models

        model = models.resnet50(1000, (224, 224, 3), weight_decay=1e-4)
        ```
    """
    return _build("resnet50", _bottleneck, (3, 4, 6, 3), classes, input_shape, weight_decay=weight_decay)


def resnet101(classes: int, input_shape: Sequence[int], *, weight_decay: float = 0.0) -> keras.Model:
    """Builds ResNet-101, of bottlenecks. Arguments as `resnet50`'s."""
    return _build("resnet101", _bottleneck, (3, 4, 23, 3), classes, input_shape, weight_decay=weight_decay)


def resnet152(classes: int, input_shape: Sequence[int], *, weight_decay: float = 0.0) -> keras.Model:
    """Builds ResNet-152, of bottlenecks. Arguments as `resnet50`'s."""
    return _build("resnet152", _bottleneck, (3, 8, 36, 3), classes, input_shape, weight_decay=weight_decay)


def _build(
    name: str,
    block: _Block,
    blocks: Sequence[int],
    classes: int,
    input_shape: Sequence[int],
    *,
    weight_decay: float,
) -> keras.Model:
    check_classes(name, classes)
    cure = "Give larger images, or build resnet20, resnet32 or resnet56."
    shape = check_image(name, input_shape, smallest=_TOTAL_STRIDE, cure=cure)
    check_weight_decay(name, weight_decay)
    conv = ConvNorm(weight_decay=weight_decay)
    inputs = keras.Input(shape, name="inputs")
    x = _stem(conv, inputs)
    for stage, (width, count) in enumerate(zip(_WIDTHS, blocks, strict=True), start=1):
        for number in range(1, count + 1):
            stride = 2 if stage > 1 and number == 1 else 1
            x = block(conv, x, width, stride, f"stage{stage}_block{number}")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    kernel_initializer = keras.initializers.RandomNormal(stddev=0.01)
    outputs = softmax_head(x, classes, weight_decay=weight_decay, kernel_initializer=kernel_initializer)
    return keras.Model(inputs, outputs, name=name)


def _stem(conv: ConvNorm, x: keras.KerasTensor) -> keras.KerasTensor:
    x = relu(conv(x, _WIDTHS[0], kernel=7, stride=2, name="stem"), "stem_relu")
    # Zeros never exceed a ReLU's outputs, so padding with them acts as padding with minus infinity would.
    x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    return keras.layers.MaxPooling2D(3, strides=2, name="stem_pool")(x)


def _basic(conv: ConvNorm, x: keras.KerasTensor, width: int, stride: int, name: str) -> keras.KerasTensor:
    y = conv(x, width, kernel=3, stride=stride, name=f"{name}_conv1")
    y = relu(y, f"{name}_relu1")
    y = conv(y, width, kernel=3, gamma="zeros", name=f"{name}_conv2")
    return _join(conv, x, y, stride, name)


def _bottleneck(conv: ConvNorm, x: keras.KerasTensor, width: int, stride: int, name: str) -> keras.KerasTensor:
    y = conv(x, width, kernel=1, name=f"{name}_conv1")
    y = relu(y, f"{name}_relu1")
    y = conv(y, width, kernel=3, stride=stride, name=f"{name}_conv2")
    y = relu(y, f"{name}_relu2")
    y = conv(y, 4 * width, kernel=1, gamma="zeros", name=f"{name}_conv3")
    return _join(conv, x, y, stride, name)


def _join(conv: ConvNorm, x: keras.KerasTensor, y: keras.KerasTensor, stride: int, name: str) -> keras.KerasTensor:
    """Adds the shortcut of option B: a 1x1 convolution where the shape changes, else the identity."""
    width = y.shape[-1]
    if stride > 1 or x.shape[-1] != width:
        x = conv(x, width, kernel=1, stride=stride, name=f"{name}_shortcut")
    y = keras.layers.Add(name=f"{name}_add")([x, y])
    return relu(y, f"{name}_out")
