"""The variables of metrics over all replicas: summed, or as they are, or as their aggregation says."""

import tensorflow as tf

from tfdist.internals.access import models
from tfdist.internals.access.collectives import sum_over_replicas
from tfdist.internals.access.coupling import FIRST, MEAN, aggregations_of, alike_variables


def over_all_replicas(model):
    """Returns pairs of the model's metric variables and their values over all replicas, by one packed all-reduce.

    Called in replica context at the end of a call. A metric that each replica updates with the rows of all has the
    same values everywhere, and so have variables that `average_means` has averaged.
    """
    alike, aggregations = alike_variables(model), aggregations_of(model)
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    values, parts = {}, {}
    for place, variable in enumerate(models.metric_variables(model)):
        value = tf.convert_to_tensor(variable.value)
        aggregation = aggregations.get(id(variable))
        if id(variable) in alike or aggregation == MEAN:
            values[place] = value
        else:
            first = aggregation == FIRST
            parts[place] = tf.where(replica == 0, value, tf.zeros_like(value)) if first else value
    values |= dict(zip(parts, sum_over_replicas(list(parts.values())), strict=True))
    return [(variable, values[place]) for place, variable in enumerate(models.metric_variables(model))]


def of_own_rows(model):
    """Returns the metric variables that a replica without rows must not change."""
    others = alike_variables(model) | {
        key for key, aggregation in aggregations_of(model).items() if aggregation == FIRST
    }
    return [variable for variable in models.metric_variables(model) if id(variable) not in others]


def average_means(model, rows):
    """Averages variables whose aggregation is "mean" at the end of a step, weighted by this replica's rows.

    A mean of the step's rows, and what is linear in such means, is then that of one device.

    Args:
        model: a `keras.Model`.
        rows: the `Rows` of this replica.
    """
    alike, aggregations = alike_variables(model), aggregations_of(model)
    means = [
        variable
        for variable in models.metric_variables(model)
        if aggregations.get(id(variable)) == MEAN and id(variable) not in alike
    ]
    if not means:
        return
    values = [tf.convert_to_tensor(variable.value) for variable in means]
    parts = [tf.math.multiply_no_nan(value, rows.share(value.dtype)) for value in values]
    for variable, total in zip(means, sum_over_replicas(parts), strict=True):
        variable.assign(total)
