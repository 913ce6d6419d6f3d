"""Rows and sums over all replicas, for losses and layers in which rows depend on each other."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfdist.internals.access import gathering
from tfdist.internals.access.collectives import sum_over_replicas
from tfdist.internals.access.replica import all_rows, current_rows, rows_are
from tfdist.internals.access.tracing import as_written
from tfdist.internals.patches.statistics import one_device_scale, works_alone
from tfdist.process.errors import UsageError
from tfdist.process.log import say


@as_written
def gather_rows(values: Any) -> Any:
    """Returns the rows of all replicas, on each of them, in the order of the global batch.

    It is a true function: the gradient that flows back to this replica's rows is the sum of what all replicas did with
    them. Rows that do not count, such as padding, are left out. On one device the rows are returned as they are.

    Call it in a layer, a loss or a `train_step` of `fit`, or in the function given to `strategy.run`.

    Args:
        values: nested tensors (B, ...) of numbers or truth values; B may differ between replicas and may be 0.

    Returns:
        The same nesting of tensors (rows of all replicas, ...).

    Raises:
        ValueError: a value has no rows, such as a scalar or a string; or XLA compiles the step.
        RuntimeError: called outside the function given to `strategy.run`.

    Example:
        ```python
        import keras
        import tensorflow as tf
        import tfdist

        class Decorrelated(keras.layers.Layer):
            def call(self, x):
                rows = tfdist.gather_rows(x)
                rows -= tf.reduce_mean(rows, axis=0)
                covariance = tf.matmul(rows, rows, transpose_a=True)
                self.add_loss(tf.reduce_sum(tf.square(covariance)))
                return x

        strategy = tfdist.choose_strategy("mirrored", replicas=2)
        rows = strategy.run(tfdist.gather_rows, args=(tf.ones([4, 3]),))
        ```
    """
    flat = [tf.convert_to_tensor(value) for value in tf.nest.flatten(values)]
    return tf.nest.pack_sequence_as(values, _gathered(flat, "gather_rows"))


def _gathered(values: list[tf.Tensor], caller: str) -> list[tf.Tensor]:
    for value in values:
        _check_rows(value, caller)
    if works_alone(caller):
        return [_own(value) for value in values]
    if caller == "gather_rows" and current_rows() is None:
        _say_how_losses_count()
    return gathering.gather(values, _places(values, caller)[0], caller)


@functools.cache
def _say_how_losses_count() -> None:
    say(
        "tfdist.gather_rows in a hand-written loop: a loss that you compute from gathered rows is the same on every "
        "replica, and counts once for each. Compute such a loss by tfdist.global_loss, which counts it once."
    )


def _own(value: tf.Tensor) -> tf.Tensor:
    """Returns the rows of the only replica, without those that pad them."""
    rows = current_rows()
    return value[: rows.mine] if rows is not None and rows.padded else value


def _places(values: list[tf.Tensor], caller: str) -> tuple[list[gathering.RowPlace], tf.Tensor | None]:
    rows = current_rows()
    if rows is not None and rows.padded:
        # Which rows are padding is known only for those of the batch.
        return [gathering.place_of_batch(rows)] * len(values), None
    places, replicas = gathering.places_by_counts(values, caller)
    return places, replicas


def _check_rows(value: tf.Tensor, caller: str) -> None:
    if not gathering.is_carried(value):
        raise UsageError(
            f"{caller}: a value has no rows that replicas can exchange. Received: shape {value.shape}, type "
            f"{value.dtype.name}. Give a dense tensor (B, ...) of numbers or truth values."
        )


@as_written
def global_sum(values: Any) -> Any:
    """Returns the sums of tensors over the replicas, the same on each of them.

    It is a true function: the gradient that flows back is the sum over the replicas of what each did with the sums. A
    replica without rows adds nothing. On one device the values are returned as they are.

    Call it in a layer, a loss or a `train_step` of `fit`, or in the function given to `strategy.run`.

    Args:
        values: nested tensors of numbers, of the same shapes on every replica, such as a sum over this replica's rows.

    Returns:
        The same nesting of sums.

    Raises:
        ValueError: XLA compiles the step, or the batch has padding rows, which a sum may hold already.
        RuntimeError: called outside the function given to `strategy.run`.

    Example:
        ```python
        import tensorflow as tf
        import tfdist

        strategy = tfdist.choose_strategy("mirrored", replicas=2)

        def mean_of(x):
            rows = tf.cast(tf.shape(x)[0], x.dtype)
            total, count = tfdist.global_sum((tf.reduce_sum(x, axis=0), rows))
            return total / count

        mean = strategy.run(mean_of, args=(tf.ones([4, 3]),))
        ```
    """
    flat = [tf.convert_to_tensor(value) for value in tf.nest.flatten(values)]
    rows = current_rows()
    if rows is not None and rows.padded:
        raise UsageError(
            "global_sum: a batch is padded here to a fixed shape, and the padding rows cannot be taken out of a sum. "
            "Use tfdist.gather_rows, which leaves them out, or batches of one size that the replicas divide."
        )
    if not works_alone("global_sum"):
        if rows is not None:
            # A row that is borrowed does not count. No product, because an infinite value times zero is NaN.
            flat = [tf.where(rows.mine > 0, value, tf.zeros_like(value)) for value in flat]
        encoded = sum_over_replicas([gathering.encode(value) for value in flat], "global_sum")
        flat = [gathering.decode(total, value.dtype) for total, value in zip(encoded, flat, strict=True)]
    return tf.nest.pack_sequence_as(values, flat)


@as_written
def global_loss(function: Callable[..., tf.Tensor], *tensors: Any) -> tf.Tensor:
    """Returns a loss that a function computes from the rows of all replicas, counted once.

    Every replica computes the same value; the gradients of the replicas add up to those of one loss. On one device it
    is `function(*tensors)`.

    Call it in a layer, a loss or a `train_step` of `fit`, or in the function given to `strategy.run`, where
    `tfdist.apply_gradients` sums the gradients.

    Args:
        function: a function of the tensors with the rows of all replicas → a scalar. It may use variables, and a
            `keras.losses.Loss`.
        *tensors: nested tensors (B, ...), as for `gather_rows`; None stays None.

    Returns:
        A scalar, the same on every replica.

    Raises:
        ValueError: the function does not return a scalar, a value has no rows, or XLA compiles the step.
        RuntimeError: called outside the function given to `strategy.run`.

    Example:
        ```python
        import keras
        import tensorflow as tf
        import tfdist

        def contrastive(a, b):  # each row's negatives are the other rows of the batch
            labels = tf.range(tf.shape(a)[0])
            logits = tf.matmul(a, b, transpose_b=True)
            return tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))

        strategy = tfdist.choose_strategy("mirrored", replicas=2)

        def loss_of(a, b):
            return tfdist.global_loss(contrastive, a, b)

        loss = strategy.run(loss_of, args=(tf.eye(4), tf.eye(4)))
        ```
    """
    if not callable(function):
        raise UsageError(
            f"global_loss: the first argument is {function!r}. Give the function first, and then each of its tensors, "
            "such as global_loss(contrastive, a, b)."
        )
    flat = [None if value is None else tf.convert_to_tensor(value) for value in tf.nest.flatten(tensors)]
    given = [value for value in flat if value is not None]
    if not given:
        raise UsageError("global_loss: no tensor with rows was given. Give the tensors that the function needs.")
    for value in given:
        _check_rows(value, "global_loss")
    if works_alone("global_loss"):
        return _scalar(function(*_packed(tensors, flat, [_own(value) for value in given])))
    places, replicas = _places(given, "global_loss")
    wholes, replicas = gathering.gather_for_one_loss(given, places, replicas, "global_loss")
    with rows_are(all_rows(places[0].total)), one_device_scale():
        loss = _scalar(function(*_packed(tensors, flat, wholes)))
    return gathering.count_once(loss, replicas)


def _packed(tensors: Any, flat: list[tf.Tensor | None], values: list[tf.Tensor]) -> Any:
    """Returns nested tensors with other values in place of those that are not None."""
    new = iter(values)
    return tf.nest.pack_sequence_as(tensors, [None if value is None else next(new) for value in flat])


def _scalar(loss: Any) -> tf.Tensor:
    loss = tf.convert_to_tensor(loss)
    if loss.shape.rank != 0:
        raise UsageError(
            f"global_loss: the function returned shape {loss.shape}. Return a scalar, such as tf.reduce_mean of one "
            "loss per row."
        )
    return loss
