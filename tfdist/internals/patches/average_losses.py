"""The functions with which the guides to `tf.distribute` divide losses, with their one meaning in tfdist's step."""

import tensorflow as tf
from tensorflow.python.ops import nn_impl_distribute

from tfdist.internals.access.replica import current_rows, swapped

_average, _scale = tf.nn.compute_average_loss, tf.nn.scale_regularization_loss


def average_losses_are_global():
    """Makes `tf.nn.compute_average_loss` and `tf.nn.scale_regularization_loss` count what tfdist weights by rows.

    They divide a replica's part for a plain sum over the replicas, but the step weights each replica's loss by its
    share of the rows. Without this the part would be divided twice. Enter it around `strategy.run`.
    """
    replaced = {"compute_average_loss": _average_loss, "scale_regularization_loss": _regularization_loss}
    owners = (tf.nn, nn_impl_distribute)
    return swapped(*((owner, name, function) for owner in owners for name, function in replaced.items()))


def _average_loss(per_example_loss, sample_weight=None, global_batch_size=None):
    rows = current_rows()
    if rows is None:
        return _average(per_example_loss, sample_weight, global_batch_size)
    loss = tf.convert_to_tensor(per_example_loss)
    # A replica's rows may end with some that do not count.
    loss = tf.math.multiply_no_nan(loss, rows.mask(loss))
    divisor = tf.cast(rows.total, tf.int32) if global_batch_size is None else global_batch_size
    part = _average(loss, sample_weight, divisor)
    return tf.math.divide_no_nan(part, rows.share(part.dtype))


def _regularization_loss(regularization_loss):
    if current_rows() is None:
        return _scale(regularization_loss)
    return tf.reduce_sum(regularization_loss)
