"""Computes the exact step: what the replicas compute, and how their parts become one update.

Each function named `replica_*` runs in replica context, on one replica's rows; `Step`'s methods run in cross-replica
context, where branches may contain collectives. There is one rule of scaling: on its rows a replica computes what one
device would compute on them, and the result is weighted by the rows.
"""

import contextlib
import functools

import keras
import numpy as np
import tensorflow as tf

from tfdist.data import order
from tfdist.data.delivery.share import rows_that_count, slice_rows
from tfdist.gradients import update
from tfdist.gradients.sparse import filled
from tfdist.internals.access import models, runtime
from tfdist.internals.access.collectives import sum_over_replicas
from tfdist.internals.access.lineage import as_mean, say_doubts
from tfdist.internals.access.replica import Rows, compiled_by_xla, current_rows, rows_are
from tfdist.internals.access.tracing import compiled
from tfdist.internals.patches import randomness, statistics
from tfdist.internals.patches.average_losses import average_losses_are_global
from tfdist.internals.patches.coupled import coupled_over_all_rows
from tfdist.internals.patches.layer_calls import ways_through_layers_are_noted
from tfdist.process.user_warnings import warn_user
from tfdist.strategy.replicas import run_as_one_program, run_on_replicas
from tfdist.synchronous.exchange.choice import say_once
from tfdist.synchronous.exchange.exchange import wire_type
from tfdist.synchronous.step import checks, measurements, metric_states
from tfdist.synchronous.step.labels import with_labels_checked
from tfdist.synchronous.step.local_statistics import LocalStatistics
from tfdist.synchronous.step.outputs import concatenate_replicas
from tfdist.synchronous.step.own_steps import OwnSteps, lineage_of, own_loss


class Step:
    """One step of training, evaluation or prediction of a model over all replicas.

    The `share` of its methods is a per-replica `Share`: a batch, and which of its rows count; `form` is the `Form` that
    all shares of the source have; `clock` is a `measurements.Clock` or its stand-in.

    Args:
        model: a compiled, built `keras.Model`.
        strategy: its `tf.distribute.Strategy`.
        options: `StepOptions` whose `jit_compile` is resolved.

    Attributes:
        strategy: the `tf.distribute.Strategy`.
        traffic: the `measurements.Traffic` of it.
    """

    def __init__(self, model, strategy, options):
        self._model = model
        self._jit_compile = options.jit_compile
        self.strategy = strategy
        self._local = LocalStatistics(model, strategy)
        replicas = strategy.num_replicas_in_sync
        self.traffic = measurements.Traffic(replicas, wire_type(options, strategy))
        self._own = OwnSteps(model, replicas, self.traffic)

    def train(self, share, form, clock, exchange):
        """Updates the weights once, as one device would on the whole global batch.

        Args:
            share, form, clock: as above.
            exchange: an `AllReduce`, perhaps a `FactorExchange`.

        Returns:
            (logs, work): the result of `replica_own_step` for a user's own `train_step`, otherwise None; and a
            `measurements.Work`.
        """
        step = functools.partial(self._train, form=form, clock=clock, exchange=exchange)
        return run_as_one_program(self.strategy, step, share)

    def _train(self, share, form, clock, exchange):
        if models.has_own(self._model, "train_step"):
            return self._own_train(share, form, exchange)
        variables = list(self._model.trainable_variables)
        gradients = self.gradients(share, form, exchange)
        ready = clock.ready(gradients)
        if not variables:
            warn_user("The model does not have any trainable weights.")
            return None, measurements.Work(ready, 0.0)
        if line := exchange.describe(gradients, variables):
            say_once(self._model, line)
        work = measurements.Work(ready, self.traffic.of(self._of_one(gradients), variables, self._model.optimizer))
        update(self.strategy, self._model.optimizer, gradients, variables, exchange.reduce)
        return None, work

    def gradients(self, share, form, exchange):
        """Computes each replica's part of the gradient, and counts its rows in the loss and the metrics.

        Args:
            share, form, exchange: as above.

        Returns:
            A list with an entry per trainable variable: per-replica tensors, `tf.IndexedSlices`, `Factors`, or None.
        """
        variables = list(self._model.trainable_variables)
        with keras_for_gradients(self._model, exchange, form):
            differentiate = functools.partial(_differentiate, self._model, variables, exchange)
            if self._jit_compile:
                differentiate = _compiled_by_xla(differentiate)
                # On a GPU the host would wait in each step for what the check has found.
                if runtime.is_on_cpus(self.strategy):
                    differentiate = with_labels_checked(self._model, differentiate)
            with self._local.states_are_combined():
                return self._on_replicas(replica_gradients, share, differentiate, form, self._local)

    def _own_train(self, share, form, exchange):
        over_all = keras_over_all_replicas(self._model, form)
        with over_all, self._own.gradients_are_global(exchange.wire), self._local.states_are_combined():
            logs = self._once(replica_own_step, share, "train_step", form, self._local, self._own)
        # It cannot be seen from outside when its gradients are ready.
        return logs, measurements.Work(measurements.UNKNOWN, self.traffic.noted)

    def test(self, share, form, clock):
        """Adds a global batch to the loss and the metrics; returns (logs, work) as `train` does."""
        idle = measurements.Work(measurements.UNKNOWN, 0.0)
        with keras_over_all_replicas(self._model, form, training=False):
            if models.has_own(self._model, "test_step"):
                return self._once(replica_own_step, share, "test_step", form), idle
            return self._once(replica_test, share, form), idle

    def predict(self, share, form, *, own_rows):
        """Returns the outputs for a global batch, in the order of its rows.

        Returns:
            (outputs, places, rows): the outputs of all rows on every worker or, with `own_rows`, of the rows of this
            worker's replicas; int64 (B,), the places of these rows in the global batch; the rows of the global batch.
        """
        with coupled_over_all_rows(self._model, training=False), _ways_are_noted(self._model):
            outputs = self._on_replicas(replica_predict, share, form)
        local = self.strategy.experimental_local_results
        rows = local(share.global_rows)[0]
        if own_rows:
            counts = local(share.replica_rows)
            places = [first + tf.range(count) for first, count in zip(local(share.first_row), counts, strict=True)]
            own = tf.nest.map_structure(lambda part: _own_rows(local(part), counts), outputs)
            return own, tf.concat(places, axis=0), rows
        whole = tf.nest.map_structure(functools.partial(concatenate_replicas, self.strategy), outputs)
        if form.padded:
            whole = tf.nest.map_structure(functools.partial(_without_padding, rows, self._replicas), whole)
        return whole, tf.range(rows), rows

    @property
    def _replicas(self):
        return self.strategy.num_replicas_in_sync

    def loss_is_finite(self):
        """Returns whether the loss of this worker's replicas has been finite since the epoch's beginning.

        The running sum is read, because it stays NaN or infinite once it is.
        """
        total = models.loss_tracker(self._model).total.value
        parts = [tf.convert_to_tensor(part) for part in self.strategy.experimental_local_results(total)]
        return tf.math.is_finite(tf.add_n(parts) if len(parts) > 1 else parts[0])

    def end_call(self):
        """Averages the replicas' own statistics at the end of a call; returns what `logs` does."""

        def end():
            self._local.average()
            return self.logs()

        return run_as_one_program(self.strategy, end)

    def logs(self):
        """Returns the metrics over all replicas: a dict of scalars, the same on every worker."""
        results = run_on_replicas(self.strategy, functools.partial(replica_logs, self._model))
        return self._of_one(results)

    def _on_replicas(self, function, share, *more):
        """Runs a function (model, share, *more) on every replica."""
        return run_on_replicas(self.strategy, lambda mine: function(self._model, mine, *more), share)

    def _once(self, function, share, *more):
        """Does so with a function whose result is the same on every replica; returns the result once."""
        return self._of_one(self._on_replicas(function, share, *more))

    def _of_one(self, results):
        return tf.nest.map_structure(lambda value: self.strategy.experimental_local_results(value)[0], results)


@contextlib.contextmanager
def keras_for_gradients(model, exchange, form):
    """Makes Keras compute over all replicas, and report to the exchange what that records."""
    with keras_over_all_replicas(model, form), exchange.reported():
        yield


@contextlib.contextmanager
def keras_over_all_replicas(model, form, *, training=True):
    """Makes Keras compute over all replicas: losses, metrics and statistics of batches."""
    activities = statistics.activities_counted_by_rows(models.layers(model))
    padding = statistics.padding_left_out(model.metrics) if form.padded else contextlib.nullcontext()
    averages = average_losses_are_global()
    coupled = coupled_over_all_rows(model, training=training)
    noted, differ = _ways_are_noted(model), randomness.replicas_differ()
    with statistics.global_statistics(), activities, padding, averages, coupled, noted, differ:
        yield


def _ways_are_noted(model):
    """Makes the lineage of a model's own step know what leads through layers."""
    own = any(models.has_own(model, name) for name in ("train_step", "test_step", "predict_step", "compute_loss"))
    return ways_through_layers_are_noted() if own else contextlib.nullcontext()


def replica_gradients(model, share, compute, form, local):
    """Returns this replica's part of the gradient of the global loss: a tensor, `Factors` or None per variable."""
    rows = _rows_of(share, form)
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(share.batch)
    with rows_are(rows), _skip_borrowed_rows(model, rows, form, local):
        gradients, loss, y_pred = compute(x, y, sample_weight)
        _update_metrics(model, loss, x, y, y_pred, sample_weight)
    return gradients


def _compiled_by_xla(function):
    """Returns a function compiled by XLA, separately on each replica because it captures that replica's variables."""

    def traced(*arguments):
        with compiled_by_xla():
            return function(*arguments)

    def call(*arguments):
        return compiled(traced, jit_compile=True)(*arguments)

    return call


def _differentiate(model, variables, exchange, x, y, sample_weight):
    with tf.GradientTape() as tape, exchange.recording(variables) as recorder:
        loss, y_pred = loss_of(model, x, y, sample_weight)
        part = tf.math.multiply_no_nan(loss, _weight_of(loss))
        scaled_part = model.optimizer.scale_loss(part)
    gradients = recorder.gradients(tape, scaled_part)
    return filled(gradients, exchange.sparse, exchange.alike), loss, y_pred


def _weight_of(loss):
    """Returns the factor of a replica's loss: its share of the rows for a mean; 1 for each row's own value.

    The gradient of a tensor of values is that of their sum.
    """
    rows = current_rows()
    return rows.mask(loss) if loss.shape.rank else rows.share(loss.dtype)


def loss_of(model, x, y, sample_weight):
    """Returns (the loss of a replica's rows, the model's outputs)."""
    y_pred = models.call(model, x, training=True)
    loss = models.compute_loss(model, x, y, y_pred, sample_weight, training=True)
    return own_loss(model, loss, (x, y, sample_weight)), y_pred


def replica_test(model, share, form):
    """Adds this replica's rows to the loss and the metrics."""
    rows = _rows_of(share, form)
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(share.batch)
    with rows_are(rows), _skip_borrowed_rows(model, rows, form):
        y_pred = models.call(model, x, training=False)
        loss = models.compute_loss(model, x, y, y_pred, sample_weight, training=False)
        loss = own_loss(model, loss, (x, y, sample_weight))
        _update_metrics(model, loss, x, y, y_pred, sample_weight)


def _update_metrics(model, loss, x, y, y_pred, sample_weight):
    weight = current_rows().mine
    if loss.shape.rank:
        loss = tf.reduce_mean(loss, axis=list(range(1, loss.shape.rank)))
        weight = current_rows().mask(loss)
    models.loss_tracker(model).update_state(loss, sample_weight=weight)
    model.compute_metrics(x, y, y_pred, sample_weight)


def replica_own_step(model, share, method, form, local=None, own=None):
    """Runs a user's own `train_step` or `test_step` as it is.

    Args:
        method: which of them.
        own: the `OwnSteps` of a `train_step`.

    Returns:
        Its logs over all replicas, each scalar weighted by its rows, sums over rows added; and for each whether
        it differs from the metric's result: a metric is computed exactly, from its variables, instead.
    """
    rows = _rows_of(share, form)
    lineage = lineage_of(model, share.batch, rows)
    entered = own.entered() if own else contextlib.nullcontext()
    with rows_are(rows), _skip_borrowed_rows(model, rows, form, local), lineage, entered:
        step, who = getattr(model, method), f"{method} returns"
        logs = {name: as_mean(_as_float(value), rows, who) for name, value in _flat(step(share.batch))}
        results = {name: _as_float(value) for name, value in _flat(model.get_metrics_result())}
    parts = [tf.math.multiply_no_nan(value, rows.share(value.dtype)) for value in logs.values()]
    differ = [tf.cast(tf.reduce_any(value != results.get(name, np.nan)), value.dtype) for name, value in logs.items()]
    sums = sum_over_replicas([*parts, *differ])
    count = len(parts)
    return dict(zip(logs, sums[:count], strict=True)), dict(zip(logs, [s > 0 for s in sums[count:]], strict=True))


def _flat(logs):
    """Yields (name, value) of logs, also of those in a nested dict such as Keras' `compile_metrics`."""
    for name, value in logs.items():
        if isinstance(value, dict):
            yield from _flat(value)
        else:
            yield name, value


def _as_float(value):
    tensor = tf.convert_to_tensor(value)
    return tensor if tensor.dtype.is_floating else tf.cast(tensor, keras.config.floatx())


def replica_predict(model, share, form):
    """Returns the outputs for this replica's rows and, if shapes are static, for its padding rows."""
    rows, own = _rows_of(share, form), models.has_own(model, "predict_step")
    has_others = form.may_be_empty and not form.padded
    with rows_are(rows), lineage_of(model, share.batch, rows) if own else contextlib.nullcontext():
        outputs = model.predict_step(share.batch)
        say_doubts("predict_step returns", outputs)
    checks.check_outputs(outputs)
    return rows_that_count(share._replace(batch=outputs)) if has_others else outputs


def _own_rows(parts, counts):
    """Concatenates the first rows of each part, as many as its count."""
    return tf.concat([slice_rows(part, 0, count) for part, count in zip(parts, counts, strict=True)], axis=0)


def _without_padding(rows, replicas, whole):
    """Removes the padding rows from the replicas' concatenated outputs."""
    size = tf.shape(whole, out_type=tf.int64)[0] // replicas
    bounds = [order.replica_bounds(rows, replicas, replica) for replica in range(replicas)]
    kept = [replica * size + tf.range(high - low) for replica, (low, high) in enumerate(bounds)]
    return tf.gather(whole, tf.concat(kept, axis=0))


def replica_logs(model):
    """Returns the model's metrics over all replicas, from one packed all-reduce of their variables.

    Reading such a variable would be a collective too, one per variable, and would hang if only the chief read it.
    """
    with keras.StatelessScope(state_mapping=metric_states.over_all_replicas(model)):
        # A metric may return its variable, which must be read here: later it would be read from the replicas.
        return keras.tree.map_structure(_value_of, model.get_metrics_result())


def _value_of(result):
    return result.value if isinstance(result, keras.Variable) else result


def _rows_of(share, form):
    return Rows(share.replica_rows, share.global_rows, share.first_row, form.padded, form.most)


@contextlib.contextmanager
def _skip_borrowed_rows(model, rows, form, local=None):
    """Restores metrics and local statistics after the block if this replica had no rows of its own."""
    own = [*metric_states.of_own_rows(model), *(local.kept_back if local else [])]
    variables = own if form.may_be_empty else []
    before = [tf.convert_to_tensor(variable) for variable in variables]
    with local.states_kept() if local else contextlib.nullcontext():
        yield
    if local:
        local.count(rows)
    for variable, value in zip(variables, before, strict=True):
        variable.assign(tf.where(rows.mine > 0, tf.convert_to_tensor(variable), value))
    metric_states.average_means(model, rows)
