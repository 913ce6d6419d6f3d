"""Reduces gradients over the replicas once, then applies the optimizer."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from tfdist.gradients.building import build_if_needed
from tfdist.gradients.checks import check_gradients, check_update
from tfdist.gradients.factors import Factors, reduce_factors, tensors_of
from tfdist.gradients.wire import restored, rounded
from tfdist.internals.access.collectives import replica_context, sum_over_replicas
from tfdist.internals.access.replica import current_rows, rows_are
from tfdist.internals.access.tracing import as_written
from tfdist.internals.access.variables import on_this_replica
from tfdist.internals.patches import optimizers
from tfdist.process.errors import UsageError
from tfdist.strategy.replicas import merge_replicas, run_on_replicas

Gradient: TypeAlias = tf.Tensor | tf.IndexedSlices | Factors | None
Variable: TypeAlias = tf.Variable | keras.Variable
# (gradients of a replica, variables) → their sums over the replicas.
Reduce: TypeAlias = Callable[[Sequence[Gradient], Sequence[Variable]], list[Gradient]]


@as_written
def reduce_gradients(gradients: Sequence[Gradient], wire: tf.DType | None = None) -> list[Gradient]:
    """Sums gradients over the replicas, in few packed collectives; call it in replica context.

    The sums may be changed, such as clipped, and given to `optimizer.apply` or `tfdist.apply_gradients`: neither sums
    them again. In a model's own `train_step` a tape gives sums already, and they are returned as they are; what you
    compute from rows without a tape is weighted by the rows first.

    Args:
        gradients: list of tensors, `tf.IndexedSlices` or None; None stays None.
        wire: None, or the floating type to which wider numbers, and their sums, are rounded for the exchange.

    Returns:
        The list of sums, the same on every replica.

    Example:
        ```python
        import tensorflow as tf
        import tfdist

        strategy = tfdist.choose_strategy()
        with strategy.scope():
            weight = tf.Variable(2.0)

        @tf.function
        def gradients_of(x):
            with tf.GradientTape() as tape:
                loss = tfdist.global_mean(weight * x)
            return tfdist.reduce_gradients(tape.gradient(loss, [weight]))

        (gradient,) = strategy.run(gradients_of, args=(tf.range(4.0),))
        ```
    """
    check_gradients(gradients, "reduce_gradients")
    replica_context("reduce_gradients")
    optimizers.note_reduction()
    known = [gradient for gradient in gradients if gradient is not None]
    # Without a graph the question itself needs a sum.
    if not tf.executing_eagerly() and optimizers.are_sums(known):
        return list(gradients)
    if current_rows() is not None:
        gradients = [None if gradient is None else weighted_by_rows(gradient) for gradient in gradients]
    return sum_gradients(gradients, wire=wire)


def weighted_by_rows(gradient: Gradient) -> Gradient:
    """Returns a replica's gradient, weighted by its rows. One that all replicas have alike stays so in their sum."""
    if isinstance(gradient, tf.IndexedSlices):
        return _with_values(gradient, weighted_by_rows(gradient.values))
    tensor = tf.convert_to_tensor(gradient)
    return tf.math.multiply_no_nan(tensor, current_rows().share(tensor.dtype))


def sum_gradients(
    gradients: Sequence[Gradient], variables: Sequence[Variable] | None = None, wire: tf.DType | None = None
) -> list[Gradient]:
    """Sums gradients over the replicas, whatever they are; in replica context.

    Args:
        gradients: as for `reduce_gradients`; also `Factors`.
        variables: the variables, in the same order; `Factors` need them, and tensors take their shapes.
        wire: as for `reduce_gradients`.
    """
    sums: list[Gradient] = [None] * len(gradients)
    for gradient, variable in zip(gradients, variables or (), strict=variables is not None):
        if isinstance(gradient, tf.Tensor):
            # That of `Dense` on (B, T, D) does not know its size, and TensorFlow packs nothing of unknown size.
            gradient.set_shape(variable.shape)
    factors = [place for place, gradient in enumerate(gradients) if isinstance(gradient, Factors)]
    plain = [place for place, gradient in enumerate(gradients) if gradient is not None and place not in factors]
    # Dense layers come last in most models, so their gradients are ready first.
    known = () if variables is None else variables
    own = [gradients[place] for place in factors], [known[place] for place in factors]
    for place, total in zip(factors, reduce_factors(*own, wire, "reduce_gradients"), strict=True):
        sums[place] = total
    wide = [_values(gradients[place]) for place in plain]
    values, scales = rounded(wide, wire, "reduce_gradients")
    narrow = [_with_values(gradients[place], value) for place, value in zip(plain, values, strict=True)]
    totals = sum_over_replicas(narrow, "reduce_gradients")
    for place, total, scale, value in zip(plain, totals, scales, wide, strict=True):
        sums[place] = _with_values(total, restored(_values(total), scale, value.dtype))
    return sums


def _values(gradient: Gradient) -> tf.Tensor:
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else tf.convert_to_tensor(gradient)


def _with_values(gradient: Gradient, values: tf.Tensor) -> tf.Tensor | tf.IndexedSlices:
    """Returns a gradient with other values in the same places."""
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return values


@as_written
def apply_gradients(
    optimizer: keras.optimizers.Optimizer,
    gradients: Sequence[Gradient],
    variables: Sequence[Variable],
    wire: tf.DType | None = None,
) -> None:
    """Sums the gradients over the replicas, then clips and updates with the optimizer; call it in replica context.

    Gradients that `reduce_gradients` has summed, changed or not, are not summed again. So clipping sees the gradient of
    the run, not of one replica, and every replica makes the same update.

    Args:
        optimizer: a Keras optimizer. One that is not built yet is built for the variables that it is first given.
        gradients: for each variable a tensor, `tf.IndexedSlices` or None: this replica's share, as from `global_mean`.
        variables: the trainable variables, in the same order.
        wire: as in `reduce_gradients`.

    Raises:
        ValueError: the lists differ in length or are empty, or something is no optimizer, gradient or variable.
        RuntimeError: called outside `strategy.run`.

    Example:
        ```python
        import keras
        import tensorflow as tf
        import tfdist

        strategy = tfdist.choose_strategy()
        with strategy.scope():
            model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
            optimizer = keras.optimizers.Adam(1e-3, global_clipnorm=1.0)

        @tf.function
        def train_step(x, y):
            with tf.GradientTape() as tape:
                loss = tfdist.global_mean(keras.losses.mean_squared_error(y, model(x, training=True)))
            gradients = tape.gradient(loss, model.trainable_variables)
            tfdist.apply_gradients(optimizer, gradients, model.trainable_variables)
            return loss

        loss = strategy.run(train_step, args=(tf.ones([4, 3]), tf.zeros([4, 1])))
        ```
    """
    check_gradients(gradients, "apply_gradients")
    check_update(optimizer, variables)
    gradients, variables = list(gradients), list(variables)
    if len(gradients) != len(variables):
        raise UsageError(
            f"apply_gradients: {len(gradients)} gradients, but {len(variables)} variables. Pass one gradient for each "
            "variable."
        )

    replica_context("apply_gradients")
    build_if_needed(optimizer, variables)
    are_summed = optimizers.are_known_sums([gradient for gradient in gradients if gradient is not None])
    reduce = _as_they_are if are_summed else functools.partial(sum_gradients, wire=wire)

    def merged(strategy: tf.distribute.Strategy, gradients: list[Any]) -> None:
        # On one device this runs in the replica's own thread, where `optimizer.apply` would call this again.
        with rows_are(None):
            update(strategy, optimizer, gradients, variables, reduce)

    merge_replicas(merged, gradients)


def _as_they_are(gradients: Sequence[Gradient], _: Sequence[Variable]) -> list[Gradient]:
    return list(gradients)


def update(
    strategy: tf.distribute.Strategy,
    optimizer: keras.optimizers.Optimizer,
    gradients: list[Any],
    variables: Sequence[Variable],
    reduce: Reduce,
) -> None:
    """Reduces and updates where a branch may hold a collective: in cross-replica context, or in the program of a TPU.

    Args:
        strategy: the `tf.distribute.Strategy`.
        optimizer: a Keras optimizer that is built.
        gradients: list of per-replica values, as `run_on_replicas` returns them.
        variables: the trainable variables, in the same order.
        reduce: a function (gradients, variables) → their sums over the replicas, called in replica context.
    """
    with optimizers.gradients_already_reduced():
        if not optimizers.is_loss_scaling(optimizer):
            _update(strategy, optimizer, gradients, variables, reduce)
            return

        def apply() -> None:
            unscaled = run_on_replicas(strategy, functools.partial(_unscale, optimizer), gradients)
            _update(strategy, optimizer.inner_optimizer, unscaled, variables, reduce)
            optimizers.count_finite_step(optimizer)

        # If one replica overflows, all skip the step, or their weights and scales would differ.
        finite = run_on_replicas(strategy, _all_finite, gradients)
        tf.cond(strategy.experimental_local_results(finite)[0], apply, lambda: optimizers.skip_step(optimizer))


def _unscale(optimizer: keras.optimizers.Optimizer, gradients: Sequence[Gradient]) -> list[Gradient]:
    """Divides gradients by the dynamic loss scale.

    `Factors` are divided after they are multiplied, because half precision has a small range.
    """
    plain = [None if isinstance(gradient, Factors) else gradient for gradient in gradients]
    unscaled = optimizers.unscale(optimizer, plain)
    inverse = 1.0 / tf.convert_to_tensor(optimizer.dynamic_scale)
    return [
        gradient._replace(factor=inverse) if isinstance(gradient, Factors) else divided
        for gradient, divided in zip(gradients, unscaled, strict=True)
    ]


def _update(
    strategy: tf.distribute.Strategy,
    optimizer: keras.optimizers.Optimizer,
    gradients: list[Any],
    variables: Sequence[Variable],
    reduce: Reduce,
) -> None:
    overwrites = optimizer.use_ema and optimizer.ema_overwrite_frequency
    overwrite_is_due = optimizers.overwrite_is_due(optimizer) if overwrites else None
    if optimizer.gradient_accumulation_steps:
        _accumulate_or_apply(strategy, optimizer, gradients, variables, reduce)
    else:
        run_on_replicas(strategy, lambda mine: optimizer.apply(reduce(mine, variables), variables), gradients)
    if overwrites:
        overwrite = functools.partial(_overwrite, optimizer, variables)
        tf.cond(overwrite_is_due, lambda: run_on_replicas(strategy, overwrite), lambda: None)


def _accumulate_or_apply(
    strategy: tf.distribute.Strategy,
    optimizer: keras.optimizers.Optimizer,
    gradients: list[Any],
    variables: Sequence[Variable],
    reduce: Reduce,
) -> None:
    """Accumulates gradients on each replica, and reduces and applies them in the steps in which that is due."""
    pairs = [(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
    accumulators = optimizers.accumulators_of(optimizer, [variable for _, variable in pairs])
    updated = [variable for _, variable in pairs]

    def accumulate() -> None:
        def replica_accumulate(mine: list[tf.Tensor]) -> None:
            for gradient, accumulator in zip(mine, accumulators, strict=True):
                on_this_replica(accumulator).assign_add(tf.convert_to_tensor(gradient))
            optimizers.end_step_without_update(optimizer, updated)

        run_on_replicas(strategy, replica_accumulate, [gradient for gradient, _ in pairs])

    def apply() -> None:
        def replica_apply(mine: list[tf.Tensor]) -> None:
            own = [tf.convert_to_tensor(g) + a for g, a in zip(mine, accumulators, strict=True)]
            sums = reduce(own, updated)
            optimizer.apply([total / optimizer.gradient_accumulation_steps for total in sums], updated)
            for accumulator in map(on_this_replica, accumulators):
                accumulator.assign(tf.zeros_like(accumulator))

        run_on_replicas(strategy, replica_apply, [gradient for gradient, _ in pairs])

    tf.cond(optimizers.update_is_due(optimizer), apply, accumulate)


def _overwrite(optimizer: keras.optimizers.Optimizer, variables: Sequence[Variable]) -> None:
    optimizers.overwrite_with_averages(optimizer)
    optimizers.apply_constraints(variables)


def _all_finite(gradients: Sequence[Gradient]) -> tf.Tensor:
    """Returns whether all gradients of all replicas are finite; in replica context."""
    values = [part for gradient in gradients for part in tensors_of(gradient) if part.dtype.is_floating]
    bad = tf.add_n([tf.cast(tf.reduce_any(~tf.math.is_finite(value)), tf.float32) for value in values])
    return sum_over_replicas([bad])[0] == 0
