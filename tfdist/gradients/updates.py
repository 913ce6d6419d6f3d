"""Reduces gradients over the replicas once, then applies the optimizer."""

import functools

import tensorflow as tf

from tfdist.gradients.factors import Factors, reduce_factors, tensors_of
from tfdist.gradients.wire import restored, rounded
from tfdist.internals.access.collectives import replica_context, sum_over_replicas
from tfdist.internals.access.replica import rows_are
from tfdist.internals.access.tracing import as_written
from tfdist.internals.patches import optimizers
from tfdist.process.errors import UsageError
from tfdist.strategy.replicas import run_on_replicas


@as_written
def reduce_gradients(gradients, variables=None, wire=None):
    """Sums gradients over the replicas, in few packed collectives; call it in replica context.

    Args:
        gradients: list of tensors, `tf.IndexedSlices` or None; None stays None. From tfdist's own loop, also `Factors`.
        variables: the variables, in the same order; only `Factors` need them.
        wire: None, or the floating type to which wider numbers, and their sums, are rounded for the exchange.

    Returns:
        The list of sums, the same on every replica.
    """
    sums = [None] * len(gradients)
    factors = [place for place, gradient in enumerate(gradients) if isinstance(gradient, Factors)]
    plain = [place for place, gradient in enumerate(gradients) if gradient is not None and place not in factors]
    # Dense layers come last in most models, so their gradients are ready first.
    own = [gradients[place] for place in factors], [variables[place] for place in factors]
    for place, total in zip(factors, reduce_factors(*own, wire, "reduce_gradients"), strict=True):
        sums[place] = total
    values, scales = rounded([_values(gradients[place]) for place in plain], wire, "reduce_gradients")
    narrow = [_with_values(gradients[place], value) for place, value in zip(plain, values, strict=True)]
    totals = sum_over_replicas(narrow, "reduce_gradients")
    for place, total, scale in zip(plain, totals, scales, strict=True):
        sums[place] = _with_values(total, restored(_values(total), scale, gradients[place].dtype))
    return sums


def _values(gradient):
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else tf.convert_to_tensor(gradient)


def _with_values(gradient, values):
    """Returns a gradient with other values in the same places."""
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return values


@as_written
def apply_gradients(optimizer, gradients, variables, wire=None):
    """Sums the gradients over the replicas, then clips and updates with the optimizer; call it in replica context.

    So clipping sees the gradient of the run, not of one replica, and every replica makes the same update.

    Args:
        optimizer: a Keras optimizer, built in the strategy's scope (`optimizer.build(variables)`).
        gradients: for each variable a tensor, `tf.IndexedSlices` or None: this replica's share, as from `global_mean`.
        variables: the trainable variables, in the same order.
        wire: as in `reduce_gradients`.

    Raises:
        ValueError: the lists differ in length, or the optimizer is not built.
        RuntimeError: called outside `strategy.run`.
    """
    gradients, variables = list(gradients), list(variables)
    if len(gradients) != len(variables):
        raise UsageError(
            f"apply_gradients: {len(gradients)} gradients, but {len(variables)} variables. Pass one gradient for each "
            "variable."
        )
    if not optimizer.built:
        raise UsageError(
            "apply_gradients: the optimizer has no variables yet. Call optimizer.build(model.trainable_variables) in "
            "strategy.scope(), before the step."
        )

    def merged(strategy, gradients):
        # On one device this runs in the replica's own thread, where `optimizer.apply` would call this again.
        with rows_are(None):
            update(strategy, optimizer, gradients, variables, functools.partial(reduce_gradients, wire=wire))

    replica_context("apply_gradients").merge_call(merged, args=(gradients,))


def update(strategy, optimizer, gradients, variables, reduce):
    """Reduces and updates, in cross-replica context, because only there may a branch hold a collective.

    Args:
        strategy: the `tf.distribute.Strategy`.
        optimizer: a Keras optimizer that is built.
        gradients: list of per-replica values, as `strategy.run` returns them.
        variables: the trainable variables, in the same order.
        reduce: a function (gradients, variables) → their sums over the replicas, called in replica context.
    """
    if not optimizers.is_loss_scaling(optimizer):
        _update(strategy, optimizer, gradients, variables, reduce)
        return

    def apply():
        unscaled = run_on_replicas(strategy, functools.partial(_unscale, optimizer), gradients)
        _update(strategy, optimizer.inner_optimizer, unscaled, variables, reduce)
        optimizers.count_finite_step(optimizer)

    # If one replica overflows, all skip the step, or their weights and scales would differ.
    finite = run_on_replicas(strategy, _all_finite, gradients)
    tf.cond(strategy.experimental_local_results(finite)[0], apply, lambda: optimizers.skip_step(optimizer))


def _unscale(optimizer, gradients):
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


def _update(strategy, optimizer, gradients, variables, reduce):
    overwrites = optimizer.use_ema and optimizer.ema_overwrite_frequency
    overwrite_is_due = optimizers.overwrite_is_due(optimizer) if overwrites else None
    with optimizers.gradients_already_reduced():
        if optimizer.gradient_accumulation_steps:
            _accumulate_or_apply(strategy, optimizer, gradients, variables, reduce)
        else:
            run_on_replicas(strategy, lambda mine: optimizer.apply(reduce(mine, variables), variables), gradients)
        if overwrites:
            tf.cond(overwrite_is_due, lambda: _overwrite(strategy, optimizer, variables), lambda: None)


def _accumulate_or_apply(strategy, optimizer, gradients, variables, reduce):
    """Accumulates gradients on each replica, and reduces and applies them in the steps in which that is due."""
    pairs = [(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
    accumulators = optimizers.accumulators_of(optimizer, [variable for _, variable in pairs])
    updated = [variable for _, variable in pairs]

    def accumulate():
        def replica_accumulate(mine):
            for gradient, accumulator in zip(mine, accumulators, strict=True):
                optimizers.on_this_replica(accumulator).assign_add(tf.convert_to_tensor(gradient))
            optimizers.end_step_without_update(optimizer, updated)

        run_on_replicas(strategy, replica_accumulate, [gradient for gradient, _ in pairs])

    def apply():
        def replica_apply(mine):
            own = [tf.convert_to_tensor(g) + a for g, a in zip(mine, accumulators, strict=True)]
            sums = reduce(own, updated)
            optimizer.apply([total / optimizer.gradient_accumulation_steps for total in sums], updated)
            for accumulator in map(optimizers.on_this_replica, accumulators):
                accumulator.assign(tf.zeros_like(accumulator))

        run_on_replicas(strategy, replica_apply, [gradient for gradient, _ in pairs])

    tf.cond(optimizers.update_is_due(optimizer), apply, accumulate)


def _overwrite(strategy, optimizer, variables):
    optimizers.overwrite_with_averages(optimizer)
    run_on_replicas(strategy, lambda: optimizers.apply_constraints(variables))


def _all_finite(gradients):
    """Returns whether all gradients of all replicas are finite; in replica context."""
    values = [part for gradient in gradients for part in tensors_of(gradient) if part.dtype.is_floating]
    bad = tf.add_n([tf.cast(tf.reduce_any(~tf.math.is_finite(value)), tf.float32) for value in values])
    return sum_over_replicas([bad])[0] == 0
