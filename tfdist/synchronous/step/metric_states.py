"""The variables of metrics over all replicas: summed, or as they are, or as their aggregation says."""

import tensorflow as tf

from tfdist.internals.access import models
from tfdist.internals.access.collectives import sum_over_replicas
from tfdist.internals.access.coupling import coupling_of

_FIRST, _MEAN = "only_first_replica", "mean"


def over_all_replicas(model):
    """Returns pairs of the model's metric variables and their values over all replicas, by one packed all-reduce.

    Called in replica context at the end of a call. A metric that each replica updates with the rows of all has the
    same values everywhere, and so have variables that `average_means` has averaged.
    """
    alike, aggregations = _alike(model), _aggregations(model)
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    values, parts = {}, {}
    for place, variable in enumerate(models.metric_variables(model)):
        value = tf.convert_to_tensor(variable.value)
        aggregation = aggregations.get(id(variable))
        if id(variable) in alike or aggregation == _MEAN:
            values[place] = value
        else:
            first = aggregation == _FIRST
            parts[place] = tf.where(replica == 0, value, tf.zeros_like(value)) if first else value
    values |= dict(zip(parts, sum_over_replicas(list(parts.values())), strict=True))
    return [(variable, values[place]) for place, variable in enumerate(models.metric_variables(model))]


def of_own_rows(model):
    """Returns the metric variables that a replica without rows must not change."""
    others = _alike(model) | {key for key, aggregation in _aggregations(model).items() if aggregation == _FIRST}
    return [variable for variable in models.metric_variables(model) if id(variable) not in others]


def average_means(model, rows):
    """Averages variables whose aggregation is "mean" at the end of a step, weighted by this replica's rows.

    A mean of the step's rows, and what is linear in such means, is then that of one device.

    Args:
        model: a `keras.Model`.
        rows: the `Rows` of this replica.
    """
    alike, aggregations = _alike(model), _aggregations(model)
    means = [
        variable
        for variable in models.metric_variables(model)
        if aggregations.get(id(variable)) == _MEAN and id(variable) not in alike
    ]
    if not means:
        return
    values = [tf.convert_to_tensor(variable.value) for variable in means]
    parts = [tf.math.multiply_no_nan(value, rows.share(value.dtype)) for value in values]
    for variable, total in zip(means, sum_over_replicas(parts), strict=True):
        variable.assign(total)


def _alike(model):
    """Returns the ids of the variables that have the same values on all replicas."""
    return {id(variable) for metric in coupling_of(model).metrics for variable in metric.variables}


def _aggregations(model):
    """Returns how the variables that do not add up by themselves are brought together: id → Keras' aggregation."""
    additive = {id(variable) for metric in coupling_of(model).additive for variable in metric.variables}
    found = {id(each): getattr(each, "aggregation", None) for each in models.metric_variables(model)}
    return {key: value for key, value in found.items() if value in (_FIRST, _MEAN) and key not in additive}
