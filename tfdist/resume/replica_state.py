"""Collects and restores each replica's own values: metrics, gradients that wait for their update, declared states."""

import functools

import numpy as np
import tensorflow as tf

from tfdist.checkpoints.contents import contents_of
from tfdist.internals.access import models
from tfdist.internals.access.collectives import gather_over_replicas
from tfdist.internals.access.coupling import aggregations_of, alike_variables
from tfdist.internals.access.tracing import compiled
from tfdist.internals.access.variables import tf_variable
from tfdist.internals.patches import optimizers
from tfdist.strategy.replicas import run_on_replicas

METRICS, GRADIENTS = "metric", "gradient"
# Metrics that no epoch resets, and what the user has declared to differ between replicas.
OTHER_METRICS, OWN = "other metric", "own"


class ReplicaState:
    """Collects each replica's own values for a checkpoint, and restores them.

    With the same number of replicas each gets its own values back, so that sums round as in an undisturbed run. With
    another number the first replica gets the sum, and the others get zeros; values that are no sums, such as those of
    metrics that every replica updates with the rows of all, are the first replica's on each.

    Args:
        trained: the `saved_run.Trained`, built.
    """

    def __init__(self, trained):
        self._trained = trained
        self._strategy = trained.distribute_strategy
        self._collectors = {}

    def _variables(self, kind):
        if kind == METRICS:
            return [variable.value for variable in models.metric_variables(self._trained)]
        if kind == OTHER_METRICS:
            metrics = contents_of(self._trained).metrics.values()
            return [variable.value for metric in metrics for variable in metric.variables]
        if kind == OWN:
            return list(map(tf_variable, contents_of(self._trained).per_replica.values()))
        return optimizers.pending_accumulators(self._trained.optimizer)

    def own_names(self):
        """Returns the names of the variables that the user has declared to differ between replicas."""
        return list(contents_of(self._trained).per_replica)

    def has(self, kind):
        """Returns whether there are variables of a kind."""
        return bool(self._variables(kind))

    def is_pending(self):
        """Returns whether gradients wait for their update."""
        return bool(self._variables(GRADIENTS))

    def collect(self, kinds):
        """Returns the values of every replica; all workers call it together.

        Args:
            kinds: some of METRICS, GRADIENTS, OTHER_METRICS and OWN.

        Returns:
            name → array of shape (replicas, ...), the same on every worker.
        """
        arrays = {}
        for kind in kinds:
            variables = self._variables(kind)
            if variables:
                values = self._collector(kind, variables)()
                arrays |= {f"{kind}/{index}": np.asarray(value) for index, value in enumerate(values)}
        return arrays

    def _collector(self, kind, variables):
        """Returns the compiled function that collects, traced once."""
        if kind not in self._collectors:

            def collect():
                gather = functools.partial(gather_over_replicas, caller="collect")
                results = run_on_replicas(self._strategy, gather, variables)
                return [self._strategy.experimental_local_results(result)[0] for result in results]

            self._collectors[kind] = compiled(collect)
        return self._collectors[kind]

    def restore(self, kind, arrays):
        """Assigns the values that `collect` returned.

        Args:
            kind: METRICS, GRADIENTS, OTHER_METRICS or OWN.
            arrays: name → array of shape (replicas then, ...), also with other names.

        Returns:
            Whether the arrays fit the model; if not, nothing is assigned.
        """
        variables = self._variables(kind)
        names = [f"{kind}/{index}" for index in range(len(variables))]
        fits = [name in arrays and arrays[name].shape[1:] == v.shape for name, v in zip(names, variables, strict=True)]
        if not all(fits) or f"{kind}/{len(variables)}" in arrays:
            return False

        # Not a lambda: a TPU's program has the name of the function that it is in.
        def pick_own(values):
            return run_on_replicas(self._strategy, _replica_pick, values)

        pick = compiled(pick_own, reduce_retracing=True)
        for name, variable, is_alike in zip(names, variables, self._are_alike(kind), strict=True):
            # A view, because NumPy forgets the names of types such as bfloat16.
            values = self._redistributed(arrays[name].view(variable.dtype.as_numpy_dtype), is_alike)
            mine = pick(tf.constant(values))
            self._strategy.extended.update(variable, lambda v, value: v.assign(value), args=(mine,))
        return True

    def _are_alike(self, kind):
        """Returns for each variable whether its values are no parts of a sum."""
        if kind != METRICS:
            return [False] * len(self._variables(kind))
        known = alike_variables(self._trained) | aggregations_of(self._trained).keys()
        return [id(variable) in known for variable in models.metric_variables(self._trained)]

    def _redistributed(self, values, is_alike):
        """Returns (replicas now, ...) for (replicas then, ...)."""
        count = self._strategy.num_replicas_in_sync
        if len(values) == count:
            return values
        if is_alike:
            return np.repeat(values[:1], count, axis=0)
        shared = np.zeros((count, *values.shape[1:]), values.dtype)
        shared[0] = values.sum(axis=0, dtype=values.dtype)
        return shared


def _replica_pick(values):
    return values[tf.distribute.get_replica_context().replica_id_in_sync_group]
