"""Losses over the rows of all replicas, for training loops written by hand."""

import keras
import tensorflow as tf

from tfdist.internals.access.collectives import replica_context, sum_over_replicas
from tfdist.internals.access.dependence import note_sums
from tfdist.internals.access.replica import Rows, current_rows
from tfdist.internals.access.tracing import as_written
from tfdist.internals.patches.statistics import works_alone
from tfdist.process.errors import UsageError


@as_written
def global_mean(rows: tf.Tensor) -> tf.Tensor:
    """Returns the mean of per-row losses over the rows of all replicas; call it in replica context, on the tape.

    The value is the global mean; the gradient that flows back is the one of this replica's rows, divided by the global
    number of rows, so that summing the gradients over the replicas gives one device's. (An `all_reduce` on the tape
    would be reduced once more in the backward pass, because its gradient is an all-reduce.) In a loss, a layer or a
    `train_step` of `fit`, it counts as the mean over the rows of all replicas, too.

    Args:
        rows: float tensor (B,), one loss per row; B may differ between replicas and may be 0.

    Returns:
        A scalar, the same on every replica.

    Raises:
        ValueError: a scalar was given, such as the result of a Keras loss that has already reduced.

    Example:
        ```python
        import tensorflow as tf
        import tfdist

        strategy = tfdist.choose_strategy()

        @tf.function
        def loss_of(x, y):
            rows = tf.square(x - y)  # one loss a row
            return tfdist.global_mean(rows)

        loss = strategy.run(loss_of, args=(tf.range(4.0), tf.zeros([4])))
        ```
    """
    rows, batch = tf.convert_to_tensor(rows), current_rows()
    if not rows.dtype.is_floating:
        raise UsageError(f"global_mean: the losses are of type {rows.dtype.name}. Give floats, one loss per row.")
    if rows.shape.rank != 1:
        raise UsageError(
            f"global_mean: one loss per row is needed, shape (B,). Received: shape {rows.shape}. "
            "Make the loss with reduction=None, and average it over all dimensions except the rows."
        )
    number = tf.cast(tf.size(rows), rows.dtype)
    if batch is not None:
        rows, number = _without_rows_that_do_not_count(rows, number, batch)
    local = tf.reduce_sum(rows)
    both = tf.stack([tf.stop_gradient(local), number])
    total, count = tf.unstack(both if works_alone("global_mean") else sum_over_replicas([both], "global_mean")[0])
    mine = tf.math.divide_no_nan(local, count)
    if batch is not None:
        # In a step of tfdist's own, each replica's loss is multiplied by its share of the rows.
        mine = tf.math.divide_no_nan(mine, batch.share(mine.dtype))
    mean = mine + tf.stop_gradient(tf.math.divide_no_nan(total, count) - mine)
    note_sums([mean])
    return mean


def _without_rows_that_do_not_count(rows: tf.Tensor, number: tf.Tensor, batch: Rows) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns losses with zeros for rows that are borrowed or padding, and the number of those that count."""
    if batch.padded:
        return tf.math.multiply_no_nan(rows, batch.mask(rows)), tf.cast(batch.mine, rows.dtype)
    return tf.math.multiply_no_nan(rows, batch.present(rows.dtype)), number * batch.present(rows.dtype)


@as_written
def regularization(model: keras.Model) -> tf.Tensor:
    """Returns the model's weight regularization: its value for the whole run, its gradient for one replica's share.

    Args:
        model: a `keras.Model` that has been called, so that `model.losses` is filled.

    Returns:
        A scalar: the sum of `model.losses`; zero where there are none. Its gradient is divided by the number of
        replicas, because gradients are summed over them.

    Example:
        ```python
        import keras
        import tensorflow as tf
        import tfdist

        strategy = tfdist.choose_strategy()
        with strategy.scope():
            model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_regularizer="l2")])

        @tf.function
        def loss_of(x, y):
            rows = keras.losses.mean_squared_error(y, model(x, training=True))
            return tfdist.global_mean(rows) + tfdist.regularization(model)

        loss = strategy.run(loss_of, args=(tf.ones([4, 3]), tf.zeros([4, 1])))
        ```
    """
    if not model.losses:
        return tf.zeros([], model.compute_dtype)
    total = tf.add_n([tf.convert_to_tensor(loss) for loss in model.losses])
    replicas = replica_context("regularization").num_replicas_in_sync
    mine = total / tf.cast(replicas, total.dtype)
    return mine + tf.stop_gradient(total - mine)
