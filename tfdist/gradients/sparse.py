"""Pads gradients of looked-up rows, `tf.IndexedSlices`, to one shape in every step of a call.

They are exchanged as they are, each row as often as it was looked up, because Keras' optimizers take squares and norms
of them before they are added up: their dense sum would give other weights than one device.
"""

import tensorflow as tf


def filled(gradients, rows, alike=False):
    """Pads sparse gradients with zeros for a row that they have already.

    Between processes, TensorFlow's collectives know a tensor by one shape within a call, but batches differ in size.

    Args:
        gradients: list of tensors, `tf.IndexedSlices` or others.
        rows: tuple of (place in the list, number of rows to pad to).
        alike: whether all have that number of rows already.
    """
    if alike:
        return gradients
    wanted = dict(rows)
    return [
        _padded(gradient, wanted[place]) if place in wanted and isinstance(gradient, tf.IndexedSlices) else gradient
        for place, gradient in enumerate(gradients)
    ]


def _padded(gradient, rows):
    missing = rows - tf.shape(gradient.indices)[0]
    indices = tf.concat([gradient.indices, tf.repeat(gradient.indices[:1], missing)], axis=0)
    values = tf.pad(gradient.values, [[0, missing], *[[0, 0]] * (gradient.values.shape.rank - 1)])
    shaped = tf.ensure_shape(values, [rows, *gradient.values.shape[1:]])
    return tf.IndexedSlices(shaped, tf.ensure_shape(indices, [rows]), gradient.dense_shape)
