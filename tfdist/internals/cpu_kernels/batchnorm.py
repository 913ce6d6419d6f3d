"""Computes Keras' BatchNormalization with TensorFlow's fused kernels: the same numbers, on CPUs 2 to 4 times as fast.

Keras 3 composes it of a dozen operations, each of which reads and writes all activations; they took half of the time of
MobileNetV2's step. A kernel takes the statistics, normalizes, and computes all gradients, in a few passes. Keras' own
code still handles float64, inputs of two dimensions, channels that are not last, and layers that differ from Keras'.

Where statistics are taken over the rows of one replica, one kernel does everything. Where they are taken over the rows
of all replicas, a collective lies between the statistics and the normalization, and each of the two has a kernel: for
now on CPUs only. On GPUs cuDNN's kernel takes images whose statistics are of one replica's rows.

Delete this when Keras' BatchNormalization on TensorFlow calls the fused kernels itself.
"""

import contextvars
from typing import NamedTuple

import keras
import tensorflow as tf
from keras.src.backend.tensorflow import nn as keras_nn

from tfdist.internals.access import runtime
from tfdist.internals.access.replica import current_rows, held

_Layer = keras.layers.BatchNormalization
_call, _moments, _batch_normalization = _Layer.call, _Layer._moments, keras_nn.batch_normalization


class _Normalized(NamedTuple):
    """The results of one kernel for a layer: its outputs, and the statistics (channels,) of its inputs."""

    outputs: tf.Tensor
    mean: tf.Tensor
    variance: tf.Tensor


# The kernel's results for the layer that is being called. Each replica is traced in a thread of its own.
_RESULTS: contextvars.ContextVar = contextvars.ContextVar("the kernel's results for this layer", default=None)


def replacements():
    """Returns the replacements for `swapped` with which Keras' own code uses the kernels' results."""
    return (
        (_Layer, "call", _layer_call),
        (_Layer, "_moments", _layer_moments),
        (keras_nn, "batch_normalization", batch_normalization),
    )


def _layer_call(self, inputs, training=None, mask=None):
    if not (training and self.trainable and mask is None and _takes_own_statistics(self)):
        return _call(self, inputs, training, mask)
    x = keras.ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
    if not (_fits(x, self.axis) or _fits_on_gpus(x, self.axis)):
        return _call(self, inputs, training, mask)
    with held(_RESULTS, _normalized_by_own_statistics(x, self.gamma, self.beta, self.epsilon)):
        return _call(self, inputs, training, mask)


def _takes_own_statistics(layer):
    """Returns whether a layer is Keras' own and takes its statistics over the rows of this replica alone."""
    if type(layer) is not _Layer or getattr(layer, "renorm", False):
        return False
    rows = current_rows()
    if rows is not None and rows.padded:
        return False
    return not layer.synchronized or tf.distribute.get_strategy().num_replicas_in_sync == 1


def _layer_moments(self, inputs, mask):
    found = _RESULTS.get()
    return _moments(self, inputs, mask) if found is None else (found.mean, found.variance)


def batch_normalization(x, mean, variance, axis, offset=None, scale=None, epsilon=1e-3):
    """Stands in for `keras.src.backend.tensorflow.nn.batch_normalization`."""
    found = _RESULTS.get()
    if found is not None:
        return found.outputs
    if not _fits(x, axis) or mean.shape.rank != 1:
        return _batch_normalization(x, mean, variance, axis, offset, scale, epsilon)
    return _normalized(x, mean, variance + epsilon, *_scale_and_offset(x, scale, offset))


def _fits(x, axis):
    """Returns whether the kernels take x (B, ..., channels); an input of two dimensions is too small to gain."""
    shaped = x.shape.rank is not None and x.shape.rank > 2 and axis in (-1, x.shape.rank - 1)
    known = shaped and x.shape[-1] is not None and x.dtype == tf.float32
    return known and _is_on_cpus()


def _fits_on_gpus(x, axis):
    """Returns whether cuDNN's kernel takes x as it is (B, H, W, channels), as Keras 2 called it."""
    return x.shape.rank == 4 and axis in (-1, 3) and x.dtype == tf.float32 and not _is_on_cpus()


def _is_on_cpus():
    return runtime.is_on_cpus(tf.distribute.get_strategy())


def _scale_and_offset(x, scale, offset):
    channels = x.shape[-1:]
    scale = tf.ones(channels) if scale is None else keras.ops.cast(scale, "float32")
    return scale, tf.zeros(channels) if offset is None else keras.ops.cast(offset, "float32")


def _as_image(x):
    """Reshapes x (B, ..., channels) to the four dimensions that the kernels need, without a copy."""
    return tf.reshape(x, [-1, 1, 1, x.shape[-1]])


def _normalized_by_own_statistics(x, gamma, beta, epsilon):
    scale, offset = _scale_and_offset(x, gamma, beta)
    empty = tf.zeros([0])
    image = _as_image(x) if _is_on_cpus() else x
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=image, scale=scale, offset=offset, mean=empty, variance=empty, epsilon=epsilon, is_training=True
    )
    # The kernel's variance is the unbiased one, over count - 1; Keras' is over the count. That of one element is zero,
    # or on GPUs perhaps no number.
    count = tf.cast(tf.size(x) / x.shape[-1], tf.float32)
    variance = tf.math.multiply_no_nan(variance, (count - 1) / count)
    return _Normalized(tf.reshape(outputs, tf.shape(x)), mean, variance)


@tf.custom_gradient
def _normalized(x, mean, variance, scale, offset):
    """Returns (x - mean) / sqrt(variance) * scale + offset, with the gradients of all."""
    image = _as_image(x)
    outputs = _with_statistics(image, mean, variance, scale, offset)

    def gradient(dy):
        back = tf.raw_ops.FusedBatchNormGradV3(
            y_backprop=_as_image(dy),
            x=image,
            scale=scale,
            reserve_space_1=mean,
            reserve_space_2=variance,
            reserve_space_3=tf.zeros([0]),
            epsilon=0.0,
            is_training=False,
        )
        dscale, doffset = back.scale_backprop, back.offset_backprop
        dmean = -doffset * scale * tf.math.rsqrt(variance)
        dvariance = -0.5 * dscale * scale / variance
        return tf.reshape(back.x_backprop, tf.shape(x)), dmean, dvariance, dscale, doffset

    return tf.reshape(outputs, tf.shape(x)), gradient


def sums_and_squares(x, axes):
    """Sums x and its squares over axes, which stay as dimensions of 1; with a kernel's gradient where that fits."""
    channels_stay = [*axes] == [*range(x.shape.rank - 1)]
    return _sums_for_channels(x) if channels_stay and _fits(x, -1) else _sums_and_squares(x, axes)


def _sums_and_squares(x, axes):
    return tf.reduce_sum(x, axes, keepdims=True), tf.reduce_sum(tf.square(x), axes, keepdims=True)


@tf.custom_gradient
def _sums_for_channels(x):
    def gradient(dsum, dsquares):
        dsum, dsquares = tf.reshape(dsum, [-1]), tf.reshape(dsquares, [-1])
        # x * 2 dsquares + dsum, in one pass.
        dx = _with_statistics(_as_image(x), tf.zeros_like(dsum), tf.ones_like(dsum), 2 * dsquares, dsum)
        return tf.reshape(dx, tf.shape(x))

    return _sums_and_squares(x, [*range(x.shape.rank - 1)]), gradient


def _with_statistics(image, mean, variance, scale, offset):
    return tf.raw_ops.FusedBatchNormV3(
        x=image, scale=scale, offset=offset, mean=mean, variance=variance, epsilon=0.0, is_training=False
    ).y
