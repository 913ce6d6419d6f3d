"""Computes losses and metrics in which rows depend on each other from the rows of all replicas, on each of them."""

import contextlib

import keras
import tensorflow as tf
from keras.src.backend import get_keras_mask as keras_mask
from keras.src.backend import set_keras_mask

from tfdist.internals.access.coupling import coupling_of
from tfdist.internals.access.dependence import note_sums
from tfdist.internals.access.gathering import count_once, gather, gather_for_one_loss, is_carried, place_of_batch
from tfdist.internals.access.models import compiled_losses, losses_replaced
from tfdist.internals.access.replica import (
    added_losses,
    all_rows,
    current_rows,
    is_compiled_by_xla,
    replaced_methods,
    rows_are,
    swapped,
)
from tfdist.internals.access.user_code import adds_loss_itself, has_own_regularizer
from tfdist.internals.patches.statistics import activity_losses_are_sums
from tfdist.process.errors import UsageError


@contextlib.contextmanager
def coupled_over_all_rows(model, *, training=True):
    """Makes what a model's `Coupling` names work on the rows of all replicas, while the context is entered.

    Args:
        model: a `keras.Model`.
        training: whether what is entered trains.
    """
    coupling = coupling_of(model)
    with contextlib.ExitStack() as stack:
        if coupling.losses:
            losses = [
                LossOfAllRows(loss) if place in coupling.losses else loss
                for place, loss in enumerate(compiled_losses(model))
            ]
            stack.enter_context(losses_replaced(model, losses))
        if coupling.metrics:
            stack.enter_context(replaced_methods(coupling.metrics, "update_state", _update_of_all_rows))
        if coupling.layers:
            stack.enter_context(_layers_of_all_rows(coupling.layers))
        if joint := coupling.joint if training else coupling.always:
            stack.enter_context(replaced_methods(joint, "call", _call_of_all_rows))
        yield


class LossOfAllRows:
    """Stands in for a `keras.losses.Loss` in `compile`.

    A scalar of all rows is the same on each replica, and is counted once. Of a loss that returns each row's value, a
    replica returns its own rows' values, and all gradients.

    Args:
        loss: the loss.
    """

    def __init__(self, loss):
        self._loss = loss
        self.name = loss.name

    def __call__(self, y_true, y_pred, sample_weight=None):
        rows = current_rows()
        if rows is None or rows.whole:
            return self._loss(y_true, y_pred, sample_weight)
        if is_compiled_by_xla():
            raise UsageError(
                f"jit_compile=True, but loss {self.name!r} couples rows, so the replicas exchange them, and XLA cannot "
                "compile a collective. Use jit_compile=False."
            )
        mask = keras_mask(y_pred)
        given = [y_true, y_pred, sample_weight, mask]
        wholes, replicas = _gathered(given, rows)
        y_true, y_pred, sample_weight, mask = wholes
        if mask is not None:
            set_keras_mask(y_pred, mask)
        with rows_are(all_rows(rows.total)):
            loss = tf.convert_to_tensor(self._loss(y_true, y_pred, sample_weight))
        if loss.shape.rank == 0:
            return count_once(loss, replicas)
        return _own_values(loss, tf.shape(tf.nest.flatten(given[1])[0])[0], replicas)


def _gathered(nested, rows):
    """Returns nested values with the rows of all replicas; what has no rows stays. And the number of replicas."""
    flat = [_as_tensor(value) for value in tf.nest.flatten(nested)]
    places = [place for place, value in enumerate(flat) if is_carried(value)]
    wholes, replicas = gather_for_one_loss([flat[place] for place in places], [place_of_batch(rows)] * len(places))
    for place, whole in zip(places, wholes, strict=True):
        flat[place] = whole
    return tf.nest.pack_sequence_as(nested, flat), replicas


def _as_tensor(value):
    return value if value is None or isinstance(value, tf.RaggedTensor) else tf.convert_to_tensor(value)


def _own_values(values, batch, replicas):
    """Returns this replica's part (B, ...) of the values of all rows, with the gradient of their sum.

    The gradient of a tensor of values is that of their sum over all replicas.
    """
    rows = current_rows()
    own = values[rows.first : rows.first + rows.mine]
    missing = tf.cast(batch, tf.int64) - rows.mine
    own = tf.pad(tf.stop_gradient(own), [[0, missing], *[[0, 0]] * (values.shape.rank - 1)])
    total = tf.reduce_sum(values)
    part = tf.math.divide_no_nan(total, tf.cast(replicas, total.dtype))
    return own + _gradient_alone(part, tf.cast(rows.mine, total.dtype)) * rows.mask(own)


@tf.custom_gradient
def _gradient_alone(value, divisor):
    """Returns zero; its gradient is that of a value."""
    return tf.zeros_like(value), lambda upstream: (tf.math.divide_no_nan(upstream, divisor), None)


@contextlib.contextmanager
def _layers_of_all_rows(layers):
    """Makes layers, or only their regularizers, work on the rows of all replicas, and return those of their own."""
    regularized = [layer for layer in layers if has_own_regularizer(layer)]
    regularizers = [
        (layer, "activity_regularizer", _regularizer_of_all_rows(layer.activity_regularizer)) for layer in regularized
    ]
    calling = [layer for layer in layers if adds_loss_itself(layer)]
    with swapped(*regularizers), replaced_methods(calling, "call", _call_of_all_rows):
        yield


def _regularizer_of_all_rows(regularizer):
    def call(output):
        rows = current_rows()
        if rows is None or rows.whole:
            return regularizer(output)
        (whole,), replicas = _gathered([output], rows)
        with rows_are(all_rows(rows.total)):
            loss = tf.convert_to_tensor(regularizer(whole))
        loss = count_once(loss, replicas)
        if activity_losses_are_sums():
            return loss
        # Keras divides by the rows of the output, but this one is of all rows.
        return loss * tf.cast(tf.shape(output, out_type=tf.int64)[0] / rows.total, loss.dtype)

    return call


def _call_of_all_rows(call):
    def call_of_all_rows(self, *arguments, **options):
        rows = current_rows()
        if rows is None or rows.whole:
            return call(self, *arguments, **options)
        batch = next(value for value in tf.nest.flatten((arguments, options)) if _has_rows(value))
        # What has another number of rows than the first input is no part of the batch.
        arguments, options = _with_all_rows((arguments, options), lambda value: value.shape[0] == batch.shape[0])
        size = next(value for value in tf.nest.flatten((arguments, options)) if _has_rows(value)).shape[0]
        own = added_losses()
        with rows_are(all_rows(rows.total)):
            outputs = call(self, *arguments, **options)
            own.update(added_losses())
        # A row that is borrowed or padding repeats another one.
        places = tf.minimum(rows.first + tf.range(tf.shape(batch, out_type=tf.int64)[0]), rows.total - 1)
        return tf.nest.map_structure(lambda output: _rows_at(places, output, size), outputs)

    return call_of_all_rows


def _rows_at(places, output, size):
    """Returns the rows of an output at some places; what has another number of rows than all replicas, `size`, stays.

    In a graph that number is unknown, None, and then so is that of an output with as many rows.
    """
    return tf.gather(output, places) if _has_rows(output) and output.shape[0] in (size, None) else output


def _update_of_all_rows(update_state):
    def update(self, *arguments, **options):
        rows = current_rows()
        if rows is None or rows.whole:
            return update_state(self, *arguments, **options)
        arguments, options = _with_all_rows((arguments, options), lambda value: True)
        with rows_are(all_rows(rows.total)):
            return update_state(self, *arguments, **options)

    return update


def _with_all_rows(given, is_of_batch):
    """Returns nested values with the rows of all replicas, and with their masks; what has no rows stays."""
    flat = tf.nest.flatten(given)
    values = [*flat, *map(keras_mask, flat)]
    places = [place for place, value in enumerate(values) if _has_rows(value) and is_of_batch(value)]
    tensors = [tf.convert_to_tensor(values[place]) for place in places]
    wholes = gather(tensors, [place_of_batch(current_rows())] * len(places))
    # Their number is an argument of the step, but the same on all replicas.
    note_sums(wholes)
    for place, whole in zip(places, wholes, strict=True):
        values[place] = whole
    for value, mask in zip(values[: len(flat)], values[len(flat) :], strict=True):
        if mask is not None:
            set_keras_mask(value, mask)
    return tf.nest.pack_sequence_as(given, values[: len(flat)])


def _has_rows(value):
    if value is None or isinstance(value, keras.Variable | tf.Variable | bool | int | float | str):
        return False
    return is_carried(_as_tensor(value))
