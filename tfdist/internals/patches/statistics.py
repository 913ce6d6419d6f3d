"""Takes Keras' statistics of a batch over the rows of all replicas instead of one replica's.

The one rule: **a scalar is weighted by its rows.** On each replica, Keras computes on its rows what one device would
compute on them; the share of a replica in the whole is its rows / the global batch's rows. So the mean of a loss over
its elements, a custom loss that returns a scalar, `add_loss` and weight regularization need nothing but that factor.
What is not a mean over rows is divided by the factor here: sums, and means over weights or unmasked elements.

A replica without rows works on a row of another replica, because TensorFlow's convolutions fail on no rows (oneDNN
gives them the input's shape); its factor is zero. Where shapes must be static, a share may end with padding rows: they
are excluded from each mean over elements here, before the factor.
"""

import contextlib
import functools
import inspect

import keras
import tensorflow as tf
from keras.src.backend import get_keras_mask as keras_mask
from keras.src.backend.common import global_state
from keras.src.backend.common.stateless_scope import in_stateless_scope
from keras.src.backend.tensorflow import nn as keras_nn
from keras.src.losses import loss as keras_losses

from tfdist.internals.access.collectives import replica_context, sum_over_replicas
from tfdist.internals.access.dependence import is_noted
from tfdist.internals.access.lineage import as_mean, current_lineage
from tfdist.internals.access.replica import (
    added_losses,
    current_rows,
    is_compiled_by_xla,
    note_operation,
    swapped,
)
from tfdist.internals.cpu_kernels import batchnorm
from tfdist.process.errors import UsageError

_reduce_values = keras_losses.reduce_values
_apply_mask = keras_losses.apply_mask
_scale_loss = keras_losses.scale_loss_for_distribution
_unscale_loss = keras_losses.unscale_loss_for_distribution
_moments = keras_nn._compute_moments_sync
_update_mean, _update_sum = keras.metrics.Mean.update_state, keras.metrics.Sum.update_state
_add_loss_of_keras = keras.layers.Layer.add_loss
_own_losses_of_keras = keras.layers.Layer._get_own_losses
_clear_losses_of_keras = keras.layers.Layer._clear_losses


def global_statistics():
    """Replaces Keras' statistics while the context is entered; without rows, each replacement acts as the original."""
    return swapped(
        (keras_losses, "reduce_values", reduce_values),
        (keras_losses, "apply_mask", apply_mask),
        (keras_losses, "scale_loss_for_distribution", scale_loss),
        (keras_losses, "unscale_loss_for_distribution", unscale_loss),
        (keras_nn, "_compute_moments_sync", moments),
        *batchnorm.replacements(),
        (keras.metrics.Mean, "update_state", update_mean),
        (keras.metrics.Sum, "update_state", update_sum),
        (keras.layers.Layer, "add_loss", add_loss),
        (keras.layers.Layer, "_get_own_losses", own_losses),
        (keras.layers.Layer, "_clear_losses", clear_losses),
    )


def add_loss(self, loss):
    """Stands in for `keras.layers.Layer.add_loss`: keeps each replica's losses apart.

    Keras keeps them on the layer, which all replicas share. Replicas are traced in turns and switch at each collective,
    such as that of a BatchNormalization in the middle of the model. The next replica then begins its call by clearing
    the losses of the one before.
    """
    losses = added_losses()
    if losses is None:
        _add_loss_of_keras(self, loss)
        return
    mine = losses.setdefault(id(self), [])
    if in_stateless_scope():
        # There Keras keeps them in the scope, if anywhere.
        mine.extend(map(tf.convert_to_tensor, keras.tree.flatten(loss)))
        return
    before = len(self._losses)
    _add_loss_of_keras(self, loss)
    mine.extend(self._losses[before:])
    del self._losses[before:]


def own_losses(self):
    """Stands in for `keras.layers.Layer._get_own_losses`: returns this replica's losses."""
    losses = added_losses()
    return _own_losses_of_keras(self) if losses is None else list(losses.get(id(self), ()))


def clear_losses(self):
    """Stands in for `keras.layers.Layer._clear_losses`: clears this replica's losses, also those of nested layers."""
    losses = added_losses()
    if losses is None:
        _clear_losses_of_keras(self)
        return
    losses.pop(id(self), None)
    for layer in self._layers:
        layer._clear_losses()


@contextlib.contextmanager
def padding_left_out(metrics):
    """Excludes padding rows from metrics while the context is entered, and refuses losses that cannot exclude them.

    Enter it within `global_statistics`, whose replacements it calls.

    Args:
        metrics: the model's `keras.metrics.Metric`s.
    """
    flat = [item for metric in metrics for item in getattr(metric, "metrics", [metric])]
    kinds = dict.fromkeys(type(item) for item in flat)
    replacements = [(kind, "update_state", _weighted_by_rows(kind.update_state)) for kind in kinds]
    with swapped(*replacements, (keras.layers.Layer, "add_loss", _add_loss)):
        yield


def _weighted_by_rows(update_state):
    signature = inspect.signature(update_state)

    def update(self, *arguments, **options):
        rows = current_rows()
        bound = signature.bind(self, *arguments, **options)
        values = arguments[0] if arguments else next(iter(options.values()))
        if rows is None or rows.whole or not len(getattr(values, "shape", ())):
            return update_state(self, *arguments, **options)
        given = bound.arguments.get("sample_weight")
        weights = _ones_for(values, arguments, self.dtype) if given is None else tf.cast(given, self.dtype)
        bound.arguments["sample_weight"] = weights * rows.mask(weights)
        return update_state(*bound.args, **bound.kwargs)

    return update


def _ones_for(values, arguments, dtype):
    """Returns a 1 for each row or, where Keras has a mask for one of the arguments, for each of its elements."""
    masks = [mask for mask in map(keras_mask, arguments) if mask is not None]
    return tf.ones(tf.shape(masks[0] if masks else values)[: None if masks else 1], dtype)


def _add_loss(self, loss):
    """Stands in for `keras.layers.Layer.add_loss` where a batch may have padding rows: refuses a scalar of them."""
    rows = current_rows()
    if rows is None or not (rows.whole or is_noted(loss)):
        _without_padding(loss, f"the loss that layer {self.name!r} adds")
    add_loss(self, loss)


def activities_counted_by_rows(layers):
    """Makes the activity regularizers of layers means over rows where they are sums, as before about Keras 3.14."""
    if not activity_losses_are_sums():
        return contextlib.nullcontext()
    layers = [layer for layer in layers if layer.activity_regularizer is not None]
    return swapped(*((layer, "activity_regularizer", _over_share(layer.activity_regularizer)) for layer in layers))


@functools.cache
def activity_losses_are_sums():
    """Returns whether Keras adds an activity regularizer's sum as it is, without a division by the rows."""
    layer = keras.layers.ActivityRegularization(l1=1.0, dtype="float32")
    with tf.init_scope():
        layer(tf.ones((2, 1)))
        return float(layer.losses[0]) == 2.0


def _over_share(regularizer):
    def call(output):
        rows = current_rows()
        loss = regularizer(output)
        return loss if rows is None else tf.math.divide_no_nan(loss, rows.share(loss.dtype))

    return call


def scale_loss(value):
    """Stands in for Keras' division by the number of replicas: parts are weighted by their rows later."""
    return _scale_loss(value) if current_rows() is None else value


def unscale_loss(value):
    """Stands in for Keras' function that undoes `scale_loss`."""
    return _unscale_loss(value) if current_rows() is None else value


def reduce_values(values, sample_weight=None, reduction="sum_over_batch_size"):
    """Stands in for `keras.src.losses.loss.reduce_values`."""
    rows = current_rows()
    if rows is None:
        return _reduce_values(values, sample_weight, reduction)
    if rows.padded:
        values, sample_weight = (_without_padding(part, "a loss") for part in (values, sample_weight))
    if values.shape.rank == 0:
        return _reduce_values(values, sample_weight, reduction)
    total = tf.reduce_sum(values)
    if reduction == "sum":
        return tf.math.divide_no_nan(total, rows.share(total.dtype))
    if reduction == "mean_with_sample_weight" and sample_weight is not None:
        weights = _global_sum(tf.cast(tf.reduce_sum(sample_weight), total.dtype))
        return tf.math.divide_no_nan(total, weights * rows.share(total.dtype))
    if rows.padded and reduction not in (None, "none"):
        return tf.math.divide_no_nan(total, _elements(values, total.dtype))
    return _reduce_values(values, sample_weight, reduction)


def apply_mask(sample_weight, mask, dtype, reduction):
    """Stands in for `keras.src.losses.loss.apply_mask`: the valid elements of all replicas count."""
    rows = current_rows()
    if rows is None or mask is None or reduction not in ("mean", "sum_over_batch_size"):
        return _apply_mask(sample_weight, mask, dtype, reduction)
    # `reduce_values` will divide by this replica's elements, but the divisor must be the valid ones of all replicas.
    mask = tf.cast(mask, dtype)
    valid = _global_sum(tf.reduce_sum(_without_padding(mask, "a mask") if rows.padded else mask))
    elements = _elements(mask, dtype)
    scale = tf.math.divide_no_nan(elements, valid * rows.share(dtype))
    return _apply_mask(sample_weight, mask * scale, dtype, "sum")


def _elements(values, dtype):
    """Counts the elements (B, ...) of this replica's own rows."""
    rows, size = current_rows(), tf.size(values, out_type=tf.int64)
    if rows.padded:
        size = size // tf.shape(values, out_type=tf.int64)[0] * rows.mine
    return tf.cast(size, dtype)


def _without_padding(values, what):
    """Returns values with zeros in padding rows; None stays None.

    Raises:
        ValueError: the values are a scalar, so that there is not at least one value per row.
    """
    if values is None:
        return None
    values = tf.convert_to_tensor(values)
    if values.shape.rank == 0 and current_rows() is not None:
        raise UsageError(
            f"static shapes: {what} is a scalar, so the rows that pad a smaller batch cannot be excluded from it. "
            "Return one value per row, or use batches that need no padding: a global batch that the replicas divide, "
            "and drop_remainder=True."
        )
    return values if current_rows() is None else values * current_rows().mask(values)


def update_mean(self, values, sample_weight=None):
    """Stands in for `keras.metrics.Mean.update_state`: a scalar is weighted by its rows, or rows add up to it."""
    rows = current_rows()
    values = keras.ops.convert_to_tensor(values)
    if rows is not None and rows.padded and isinstance(sample_weight, int):
        # Keras gives the losses of several outputs the rows of a tensor of known shape, padding included.
        sample_weight = None
    lineage = current_lineage()
    if rows is None or not _is_of_all_rows(values, lineage) or (sample_weight is not None and lineage is None):
        return _update_mean(self, values, sample_weight)
    if sample_weight is not None and not lineage.is_weight_alike(sample_weight):
        # It counts rows, as that of the losses does, or has a weight for each value.
        is_scalar = keras.ops.ndim(sample_weight) == 0
        return _update_mean(self, as_mean(values, rows) if is_scalar else values, sample_weight)
    values = as_mean(values, rows, f"metric {self.name!r} is given")
    share = rows.share(self.dtype)
    return _update_mean(self, values, share if sample_weight is None else share * tf.cast(sample_weight, self.dtype))


def update_sum(self, values, sample_weight=None):
    """Stands in for `keras.metrics.Sum.update_state`: in an own step, the shares of a scalar add up to it."""
    rows, lineage = current_rows(), current_lineage()
    values = keras.ops.convert_to_tensor(values)
    given_alone = lineage is not None and (sample_weight is None or lineage.is_weight_alike(sample_weight))
    if rows is None or not given_alone or not _is_of_all_rows(values, lineage):
        return _update_sum(self, values, sample_weight)
    mean = as_mean(tf.cast(values, self.dtype), rows, f"metric {self.name!r} is given")
    return _update_sum(self, tf.math.multiply_no_nan(mean, rows.share(self.dtype)), sample_weight)


def _is_of_all_rows(values, lineage):
    """Returns whether values are a scalar, or were computed from all rows of a replica, as a list of a mean is."""
    return values.shape.rank == 0 or (lineage is not None and lineage.state_of(values).lost_by is not None)


def moments(x, axes, keepdims):
    """Stands in for `keras.src.backend.tensorflow.nn._compute_moments_sync`: one all-reduce instead of three."""
    rows = current_rows()
    if rows is None:
        return _moments(x, axes, keepdims)
    present = rows.present(x.dtype)
    own = _without_padding(x, "BatchNormalization") if rows.padded else x
    sums = [value * present for value in batchnorm.sums_and_squares(own, axes)]
    count = _elements(x, x.dtype) / tf.cast(tf.size(sums[0]), x.dtype) * present
    total, squares, count = sum_over_replicas([*sums, count])
    mean = tf.math.divide_no_nan(total, count)
    variance = tf.maximum(tf.math.divide_no_nan(squares, count) - tf.square(mean), 0)
    if not keepdims:
        mean, variance = tf.squeeze(mean, axes), tf.squeeze(variance, axes)
    return mean, variance


def _global_sum(value):
    """Sums a scalar that depends on the data alone over the replicas: one small all-reduce."""
    if current_rows().whole:
        return value
    if is_compiled_by_xla():
        raise UsageError(
            "jit_compile=True, but the loss divides by weights or unmasked elements of all replicas, and the "
            "collective that counts them cannot be compiled by XLA. Use jit_compile=False, or another reduction."
        )
    present = value * current_rows().present(value.dtype)
    return tf.stop_gradient(sum_over_replicas([present])[0])


def works_alone(caller):
    """Returns whether an operation over the replicas has all rows at hand, so that it has nothing to exchange.

    That is so on one replica, for a function that works on the rows of all already, and where Keras builds a layer or
    calls it in the scope, outside of any replica.

    Args:
        caller: the name of the operation, for messages.

    Raises:
        ValueError: XLA compiles what is traced, and would have to compile a collective.
        RuntimeError: called in cross-replica context by the user.
    """
    note_operation(caller)
    rows = current_rows()
    if rows is not None and rows.whole:
        return True
    if tf.distribute.get_replica_context() is None and is_in_keras_call():
        return True
    if replica_context(caller).num_replicas_in_sync == 1:
        return True
    if is_compiled_by_xla():
        raise UsageError(
            f"jit_compile=True, but the model calls tfdist.{caller}, and XLA cannot compile its collective. Use "
            "jit_compile=False."
        )
    return False


def is_in_keras_call():
    """Returns whether Keras builds something from symbolic inputs, or a layer is being called."""
    return in_stateless_scope() or global_state.get_global_attribute("current_call_ctx") is not None


@contextlib.contextmanager
def one_device_scale():
    """Makes Keras' losses leave out their division by the replicas, for a function that works on the rows of all.

    In tfdist's own step they leave it out already. Enter it in replica context only around code without collectives.
    """
    before = keras_losses.scale_loss_for_distribution
    # Without the lock of `swapped`, which the thread that traces all replicas may hold; replicas are traced in turns.
    keras_losses.scale_loss_for_distribution = lambda value: value
    try:
        yield
    finally:
        keras_losses.scale_loss_for_distribution = before
