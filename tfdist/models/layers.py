"""Layers that the builders share: regularized kernels, convolution with BatchNorm, the softmax head."""

import dataclasses

import keras

from tfdist.models.dropout import RowDropout

# ResNets' published running-average momentum and epsilon (Goyal et al. 2017, section 5.1), not
# Keras' 0.99 and 1e-3.
BATCHNORM_MOMENTUM = 0.9
BATCHNORM_EPSILON = 1e-5


def l2(weight_decay: float) -> keras.Regularizer | None:
    """Returns the kernel penalty whose gradient is `weight_decay * kernel`, or None for 0.

    That is the papers' weight decay: `keras.regularizers.L2(x)` has the gradient `2 x kernel`.
    """
    return keras.regularizers.L2(weight_decay / 2) if weight_decay else None


def batchnorm(x: keras.KerasTensor, *, gamma: str = "ones", name: str) -> keras.KerasTensor:
    """Returns `x` (B, ..., D) normalized over all but its last axis.

    Args:
        x: The tensor to normalize.
        gamma: Keras initializer of the scale.
        name: Name of the layer.
    """
    return keras.layers.BatchNormalization(
        momentum=BATCHNORM_MOMENTUM,
        epsilon=BATCHNORM_EPSILON,
        gamma_initializer=gamma,
        # For loops written by hand, because `fit` decides for itself.
        synchronized=True,
        name=name,
    )(x)


def relu(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Returns max(x, 0), from a layer named `name`."""
    return keras.layers.ReLU(name=name)(x)


def drop(x: keras.KerasTensor, rate: float, name: str) -> keras.KerasTensor:
    """Returns `x` after a `RowDropout`, or `x` itself for a rate of 0."""
    return RowDropout(rate, name=name)(x) if rate else x


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvNorm:
    """A network's convolutions without bias, each followed by BatchNorm.

    Attributes:
        weight_decay: Factor of the kernel in the gradient of the penalty; 0 for none.
    """

    weight_decay: float

    def __call__(
        self,
        x: keras.KerasTensor,
        width: int,
        *,
        kernel: int,
        stride: int = 1,
        gamma: str = "ones",
        name: str,
    ) -> keras.KerasTensor:
        """Returns (B, ceil(H / stride), ceil(W / stride), width) of `x` (B, H, W, C)."""
        if stride > 1 and kernel > 1:
            # Keras' "same" pads an even image below and right only, so that a window's centre would
            # lie one pixel off the one that the strided shortcut takes.
            x = keras.layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
        x = keras.layers.Conv2D(
            width,
            kernel,
            strides=stride,
            padding="same" if stride == 1 else "valid",
            use_bias=False,
            # A name, because one instance of an initializer gives all kernels of a shape the same values.
            kernel_initializer="he_normal",
            kernel_regularizer=l2(self.weight_decay),
            name=name,
        )(x)
        return batchnorm(x, gamma=gamma, name=f"{name}_norm")


def softmax_head(
    x: keras.KerasTensor,
    classes: int,
    *,
    weight_decay: float = 0.0,
    kernel_initializer: str | keras.Initializer = "glorot_uniform",
) -> keras.KerasTensor:
    """Returns class probabilities (B, classes) of features `x` (B, D), in float32 or float64.

    Args:
        x: Features.
        classes: Number of classes.
        weight_decay: Factor of the kernel in the gradient of the penalty.
        kernel_initializer: Keras initializer of the kernel.
    """
    # Half precision rounds small probabilities to 0; a float64 policy keeps its precision.
    is_double = keras.config.dtype_policy().variable_dtype == "float64"
    return keras.layers.Dense(
        classes,
        activation="softmax",
        kernel_initializer=kernel_initializer,
        kernel_regularizer=l2(weight_decay),
        dtype="float64" if is_double else "float32",
        name="probabilities",
    )(x)
