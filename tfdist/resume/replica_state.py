"""What each replica keeps to itself between two calls: metrics, and gradients that wait for their update."""

import numpy as np
import tensorflow as tf

from tfdist.internals.access import models
from tfdist.internals.access.collectives import gather_over_replicas
from tfdist.internals.access.tracing import compiled
from tfdist.internals.patches import optimizers

METRICS, GRADIENTS = "metric", "gradient"


class ReplicaState:
    """Collects such values for a checkpoint, and gives them back.

    With the same number of replicas each gets its own again, so that sums round as they would have. With another number
    the first replica gets the sum, and the others zeros.

    Args:
        model: a compiled, built `keras.Model`.
    """

    def __init__(self, model):
        self._model = model
        self._strategy = model.distribute_strategy
        self._collectors = {}

    def _variables(self, kind):
        if kind == METRICS:
            return [variable.value for variable in models.metric_variables(self._model)]
        return optimizers.pending_accumulators(self._model.optimizer)

    def is_pending(self):
        """Says whether gradients wait for their update."""
        return bool(self._variables(GRADIENTS))

    def collect(self, kinds):
        """Gives the values of every replica; all workers call it together.

        Args:
            kinds: of METRICS and GRADIENTS.

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
        """Gives the compiled function that collects, traced once."""
        if kind not in self._collectors:

            def collect():
                results = self._strategy.run(gather_over_replicas, args=(variables, "collect"))
                return [self._strategy.experimental_local_results(result)[0] for result in results]

            self._collectors[kind] = compiled(collect)
        return self._collectors[kind]

    def give_back(self, kind, arrays):
        """Assigns what `collect` gave.

        Args:
            kind: METRICS or GRADIENTS.
            arrays: name → array of shape (replicas then, ...), with other names among them.

        Returns:
            Whether it fitted: False where these are not the model's.
        """
        variables = self._variables(kind)
        names = [f"{kind}/{index}" for index in range(len(variables))]
        fits = [name in arrays and arrays[name].shape[1:] == v.shape for name, v in zip(names, variables, strict=True)]
        if not all(fits) or f"{kind}/{len(variables)}" in arrays:
            return False
        pick = compiled(lambda values: self._strategy.run(_replica_pick, args=(values,)), reduce_retracing=True)
        for name, variable in zip(names, variables, strict=True):
            # A view, because NumPy forgets the names of types such as bfloat16.
            values = self._shared_out(arrays[name].view(variable.dtype.as_numpy_dtype))
            mine = pick(tf.constant(values))
            self._strategy.extended.update(variable, lambda v, value: v.assign(value), args=(mine,))
        return True

    def _shared_out(self, values):
        """Gives (replicas now, ...) for (replicas then, ...)."""
        count = self._strategy.num_replicas_in_sync
        if len(values) == count:
            return values
        shared = np.zeros((count, *values.shape[1:]), values.dtype)
        shared[0] = values.sum(axis=0, dtype=values.dtype)
        return shared


def _replica_pick(values):
    return values[tf.distribute.get_replica_context().replica_id_in_sync_group]
