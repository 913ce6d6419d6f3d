"""ResNets of He et al. 2015, arXiv:1512.03385: for ImageNet (table 1) and for CIFAR (section 4.2).

Those for ImageNet are the form called v1.5, as trained by Goyal et al. 2017, arXiv:1706.02677, section 5.1: the stride
of a bottleneck lies in its 3x3 convolution, the last BatchNorm of each block starts with gamma 0, so that the block
starts as its shortcut, and the classifier's kernel starts with a standard deviation of 0.01.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import keras

from tfdist.models.checks import check_classes, check_image, check_weight_decay
from tfdist.models.layers import ConvNorm, relu, softmax_head

# (convolutions, input, width, stride, name) → output.
_Block = Callable[[ConvNorm, keras.KerasTensor, int, int, str], keras.KerasTensor]


def resnet18(classes: int, input_shape: Sequence[int], *, weight_decay: float = 0.0) -> keras.Model:
    """Builds ResNet-18, of blocks of two 3x3 convolutions. Arguments as `resnet50`'s."""
    return _build("resnet18", classes, input_shape, weight_decay)


def resnet34(classes: int, input_shape: Sequence[int], *, weight_decay: float = 0.0) -> keras.Model:
    """Builds ResNet-34, of blocks of two 3x3 convolutions. Arguments as `resnet50`'s."""
    return _build("resnet34", classes, input_shape, weight_decay)


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
    return _build("resnet50", classes, input_shape, weight_decay)


def resnet101(classes: int, input_shape: Sequence[int], *, weight_decay: float = 0.0) -> keras.Model:
    """Builds ResNet-101, of bottlenecks. Arguments as `resnet50`'s."""
    return _build("resnet101", classes, input_shape, weight_decay)


def resnet152(classes: int, input_shape: Sequence[int], *, weight_decay: float = 0.0) -> keras.Model:
    """Builds ResNet-152, of bottlenecks. Arguments as `resnet50`'s."""
    return _build("resnet152", classes, input_shape, weight_decay)


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
    return _build("resnet20", classes, input_shape, weight_decay)


def resnet32(classes: int, input_shape: Sequence[int], *, weight_decay: float = 0.0) -> keras.Model:
    """Builds the 32-layer CIFAR ResNet: three stages of five blocks. Arguments as `resnet20`'s."""
    return _build("resnet32", classes, input_shape, weight_decay)


def resnet44(classes: int, input_shape: Sequence[int], *, weight_decay: float = 0.0) -> keras.Model:
    """Builds the 44-layer CIFAR ResNet: three stages of seven blocks. Arguments as `resnet20`'s."""
    return _build("resnet44", classes, input_shape, weight_decay)


def resnet56(classes: int, input_shape: Sequence[int], *, weight_decay: float = 0.0) -> keras.Model:
    """Builds the 56-layer CIFAR ResNet: three stages of nine blocks. Arguments as `resnet20`'s."""
    return _build("resnet56", classes, input_shape, weight_decay)


def resnet110(classes: int, input_shape: Sequence[int], *, weight_decay: float = 0.0) -> keras.Model:
    """Builds the 110-layer CIFAR ResNet: three stages of eighteen blocks. Arguments as `resnet20`'s."""
    return _build("resnet110", classes, input_shape, weight_decay)


def _cifar_stem(conv: ConvNorm, x: keras.KerasTensor) -> keras.KerasTensor:
    return relu(conv(x, 16, kernel=3, name="stem"), "stem_relu")


def _imagenet_stem(conv: ConvNorm, x: keras.KerasTensor) -> keras.KerasTensor:
    x = relu(conv(x, 64, kernel=7, stride=2, name="stem"), "stem_relu")
    # Zeros never exceed a ReLU's outputs, so padding with them acts as padding with minus infinity would.
    x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    return keras.layers.MaxPooling2D(3, strides=2, name="stem_pool")(x)


def _plain(conv: ConvNorm, x: keras.KerasTensor, width: int, stride: int, name: str) -> keras.KerasTensor:
    """Returns two 3x3 convolutions beside the shortcut of option A."""
    y = conv(x, width, kernel=3, stride=stride, name=f"{name}_conv1")
    y = relu(y, f"{name}_relu1")
    y = conv(y, width, kernel=3, name=f"{name}_conv2")
    if stride > 1:
        # Without parameters: every second pixel, and zeros for the new channels.
        x = x[:, ::stride, ::stride, :]
        x = keras.ops.pad(x, ((0, 0), (0, 0), (0, 0), (0, width - x.shape[-1])))
    return _add(x, y, name)


def _basic(conv: ConvNorm, x: keras.KerasTensor, width: int, stride: int, name: str) -> keras.KerasTensor:
    """Returns two 3x3 convolutions beside the shortcut of option B."""
    y = conv(x, width, kernel=3, stride=stride, name=f"{name}_conv1")
    y = relu(y, f"{name}_relu1")
    y = conv(y, width, kernel=3, gamma="zeros", name=f"{name}_conv2")
    return _add(_projected(conv, x, y, stride, name), y, name)


def _bottleneck(conv: ConvNorm, x: keras.KerasTensor, width: int, stride: int, name: str) -> keras.KerasTensor:
    """Returns convolutions of 1x1, 3x3 and 1x1 beside the shortcut of option B."""
    y = conv(x, width, kernel=1, name=f"{name}_conv1")
    y = relu(y, f"{name}_relu1")
    y = conv(y, width, kernel=3, stride=stride, name=f"{name}_conv2")
    y = relu(y, f"{name}_relu2")
    y = conv(y, 4 * width, kernel=1, gamma="zeros", name=f"{name}_conv3")
    return _add(_projected(conv, x, y, stride, name), y, name)


def _projected(conv: ConvNorm, x: keras.KerasTensor, y: keras.KerasTensor, stride: int, name: str) -> keras.KerasTensor:
    """Returns the shortcut of option B: a 1x1 convolution where the shape changes, else the identity."""
    if stride == 1 and x.shape[-1] == y.shape[-1]:
        return x
    return conv(x, y.shape[-1], kernel=1, stride=stride, name=f"{name}_shortcut")


def _add(x: keras.KerasTensor, y: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return relu(keras.layers.Add(name=f"{name}_add")([x, y]), f"{name}_out")


@dataclasses.dataclass(frozen=True)
class _Family:
    """What the ResNets for one kind of images have in common.

    Attributes:
        stem: What comes before the blocks: (convolutions, input) → output.
        widths: The width of each stage; each but the first halves the image.
        smallest: The product of all strides: the least H and W.
        cure: What to do about a smaller image.
        classifier: Makes the initializer of the last kernel.
    """

    stem: Callable[[ConvNorm, keras.KerasTensor], keras.KerasTensor]
    widths: tuple[int, ...]
    smallest: int
    cure: str
    classifier: Callable[[], keras.Initializer]


_CIFAR = _Family(
    stem=_cifar_stem,
    widths=(16, 32, 64),
    smallest=4,
    cure="Give larger images, or build a cnn or an mlp.",
    classifier=keras.initializers.HeNormal,
)
_IMAGENET = _Family(
    stem=_imagenet_stem,
    widths=(64, 128, 256, 512),
    smallest=32,
    cure="Give larger images, or build one for CIFAR, such as resnet20.",
    classifier=functools.partial(keras.initializers.RandomNormal, stddev=0.01),
)
# Name → family, block, blocks of each stage.
_NETWORKS: dict[str, tuple[_Family, _Block, tuple[int, ...]]] = {
    "resnet20": (_CIFAR, _plain, (3, 3, 3)),
    "resnet32": (_CIFAR, _plain, (5, 5, 5)),
    "resnet44": (_CIFAR, _plain, (7, 7, 7)),
    "resnet56": (_CIFAR, _plain, (9, 9, 9)),
    "resnet110": (_CIFAR, _plain, (18, 18, 18)),
    "resnet18": (_IMAGENET, _basic, (2, 2, 2, 2)),
    "resnet34": (_IMAGENET, _basic, (3, 4, 6, 3)),
    "resnet50": (_IMAGENET, _bottleneck, (3, 4, 6, 3)),
    "resnet101": (_IMAGENET, _bottleneck, (3, 4, 23, 3)),
    "resnet152": (_IMAGENET, _bottleneck, (3, 8, 36, 3)),
}


def _build(name: str, classes: int, input_shape: Sequence[int], weight_decay: float) -> keras.Model:
    family, block, blocks = _NETWORKS[name]
    check_classes(name, classes)
    shape = check_image(name, input_shape, smallest=family.smallest, cure=family.cure)
    check_weight_decay(name, weight_decay)
    conv = ConvNorm(weight_decay=weight_decay)
    inputs = keras.Input(shape, name="inputs")
    x = family.stem(conv, inputs)
    for stage, (width, count) in enumerate(zip(family.widths, blocks, strict=True), start=1):
        for number in range(1, count + 1):
            stride = 2 if stage > 1 and number == 1 else 1
            x = block(conv, x, width, stride, f"stage{stage}_block{number}")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = softmax_head(x, classes, weight_decay=weight_decay, kernel_initializer=family.classifier())
    return keras.Model(inputs, outputs, name=name)
