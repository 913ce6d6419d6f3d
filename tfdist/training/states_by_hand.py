"""Makes the states of layers in a hand-written loop what they would be on one device, and equal on all replicas."""

import contextlib

import keras
import tensorflow as tf

from tfdist.data import order
from tfdist.data.delivery.share import count_rows
from tfdist.internals.access import models
from tfdist.internals.access.replica import Rows
from tfdist.internals.access.tracing import compiled
from tfdist.internals.access.variables import on_this_replica
from tfdist.internals.patches import assignments
from tfdist.process.log import say
from tfdist.strategy.workers import Workers
from tfdist.synchronous.step.layer_states import LayerStates
from tfdist.synchronous.step.local_statistics import LocalStatistics


class OneReplica:
    """Does nothing: one replica has all rows."""

    def before_step(self, batch, rows):
        """Receives the batch of the next step, and the rows of all replicas in it."""

    def after_step(self):
        """Is called after each step."""


class SeveralReplicas(OneReplica):
    """Combines what the user's step assigns to the states of layers, with the rows of the batch that was given out.

    Args:
        model: a built `keras.Model`.
        strategy: its `tf.distribute.Strategy`.
        parts: name → what the user gave to the loop.
    """

    def __init__(self, model, strategy, parts):
        self._strategy = strategy
        self._states = LayerStates(model, parts)
        self._local = LocalStatistics(model, strategy)
        self._average = compiled(self._local.average_after, reduce_retracing=True)
        self._counts, self._rows_of_batch = (), 0
        self._is_used = False
        with strategy.scope():
            sync = {"synchronization": tf.VariableSynchronization.ON_READ, "trainable": False}
            # This replica's rows, those of all, and the place of this replica's first one.
            self._numbers = [
                tf.Variable(0, dtype="int64", aggregation=tf.VariableAggregation.SUM, **sync) for _ in range(3)
            ]
        # In replica context, where a step is traced, only one replica's part could be found.
        self._parts = list(map(strategy.experimental_local_results, self._numbers))
        if names := models.layers_with_local_statistics(model):
            say(
                f"BatchNormalization layers {', '.join(names)}: each replica takes the statistics of its own rows, "
                "which is not what one device does; the moving statistics are averaged by rows after each step. Make "
                "them with synchronized=True for those of all rows."
            )

    def before_step(self, batch, rows):
        first = next(part for part in tf.nest.flatten(batch) if part is not None)
        self._counts = list(map(count_rows, self._strategy.experimental_local_results(first)))
        self._rows_of_batch = rows
        if self._is_used:
            self._set_rows()

    def after_step(self):
        self._states.say_what_was_done()
        if self._local.variables:
            counts = iter(self._counts)
            self._average(self._strategy.experimental_distribute_values_from_function(lambda context: next(counts)))

    def find_keeper(self):
        """Returns the `assignments.Keeper` for the replica that is being traced."""
        return self._states.keeper(self._rows)

    def _rows(self):
        """Returns this replica's `Rows`, read anew in each step."""
        if not self._is_used:
            self._is_used = True
            # The step is being traced, and will run on the batch that was given out last.
            with tf.init_scope():
                self._set_rows()
        return Rows(*(tf.convert_to_tensor(on_this_replica(variable)) for variable in self._numbers))

    def _set_rows(self):
        replicas, workers = self._strategy.num_replicas_in_sync, Workers.of(self._strategy)
        begin = workers.rank * replicas // workers.count
        for place, (mine, total, first) in enumerate(zip(*self._parts, strict=True)):
            mine.assign(self._counts[place])
            total.assign(self._rows_of_batch)
            first.assign(order.replica_bounds(self._rows_of_batch, replicas, begin + place)[0])


@contextlib.contextmanager
def open_states(model: keras.Model, parts):
    """Yields the `OneReplica` or `SeveralReplicas` of a loop, during which the states are kept equal."""
    strategy = model.distribute_strategy
    if strategy.num_replicas_in_sync == 1:
        yield OneReplica()
        return
    states = SeveralReplicas(model, strategy, parts)
    # Without a lock, because the loop is the user's, and may use tfdist in other threads.
    with assignments.states_are_combined(states.find_keeper, lock=contextlib.nullcontext()):
        yield states
