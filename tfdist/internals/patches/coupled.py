"""Computes losses and metrics in which rows depend on each other from the rows of all replicas, on each of them."""

import contextlib
import inspect

import keras
import tensorflow as tf
from keras.src.backend import get_keras_mask as keras_mask
from keras.src.backend import set_keras_mask

from tfdist.internals.access.coupling import coupling_of
from tfdist.internals.access.gathering import count_once, gather, gather_for_one_loss, is_carried, place_of_batch
from tfdist.internals.access.models import compiled_losses, losses_replaced
from tfdist.internals.access.replica import all_rows, current_rows, is_compiled_by_xla, rows_are, swapped
from tfdist.process.errors import UsageError


@contextlib.contextmanager
def coupled_over_all_rows(model):
    """Gives the losses and metrics of a model's `Coupling` the rows of all replicas, while the context is entered."""
    coupling = coupling_of(model)
    with contextlib.ExitStack() as stack:
        if coupling.losses:
            losses = [
                LossOfAllRows(loss) if place in coupling.losses else loss
                for place, loss in enumerate(compiled_losses(model))
            ]
            stack.enter_context(losses_replaced(model, losses))
        if coupling.metrics:
            stack.enter_context(_metrics_of_all_rows(coupling.metrics))
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
def _metrics_of_all_rows(metrics):
    kinds = dict.fromkeys(type(metric) for metric in metrics)
    known = {id(metric) for metric in metrics}
    replacements = [(kind, "update_state", _of_all_rows(kind.update_state, known)) for kind in kinds]
    with swapped(*replacements):
        yield


def _of_all_rows(update_state, known):
    signature = inspect.signature(update_state)

    def update(self, *arguments, **options):
        rows = current_rows()
        if id(self) not in known or rows is None or rows.whole:
            return update_state(self, *arguments, **options)
        given = arguments, options
        masks = [keras_mask(value) for value in tf.nest.flatten(given)]
        values = [*tf.nest.flatten(given), *masks]
        places = [place for place, value in enumerate(values) if _has_rows(value)]
        wholes = gather([tf.convert_to_tensor(values[p]) for p in places], [place_of_batch(rows)] * len(places))
        for place, whole in zip(places, wholes, strict=True):
            values[place] = whole
        count = len(masks)
        for value, mask in zip(values[:count], values[count:], strict=True):
            if mask is not None:
                set_keras_mask(value, mask)
        arguments, options = tf.nest.pack_sequence_as(given, values[:count])
        with rows_are(all_rows(rows.total)):
            return update_state(self, *arguments, **options)

    update.__signature__ = signature
    return update


def _has_rows(value):
    if value is None or isinstance(value, keras.Variable | tf.Variable | bool | int | float | str):
        return False
    return is_carried(_as_tensor(value))
