"""What was found out about a model's losses and metrics: which of them need the rows of all replicas."""

from typing import NamedTuple

import keras

from tfdist.internals.access import models
from tfdist.internals.access.kept import recalled

NAME, OF_LAYERS = "coupling", "coupling of layers"
# Keras' aggregations of variables that are not summed.
FIRST, MEAN = "only_first_replica", "mean"


class Coupling(NamedTuple):
    """What of a compiled model is computed from the rows of all replicas.

    Attributes:
        losses: the places of such losses among those given to `compile`.
        metrics: such metrics; their variables are alike on all replicas.
        additive: metrics of the user's own whose variables were seen to add up over the replicas.
        layers: layers that add a loss in which rows depend on each other.
        joint: layers whose outputs or states depend on the rows together, and not as a mean, in training.
        always: those of them of which the same is so in evaluation and prediction.
        exchanges: whether something in the step exchanges rows: one of these, or an operation of tfdist's in a loss or
            a layer.
    """

    losses: tuple[int, ...] = ()
    metrics: tuple[keras.metrics.Metric, ...] = ()
    additive: tuple[keras.metrics.Metric, ...] = ()
    layers: tuple[keras.layers.Layer, ...] = ()
    joint: tuple[keras.layers.Layer, ...] = ()
    always: tuple[keras.layers.Layer, ...] = ()
    exchanges: bool = False


def alike_variables(model):
    """Returns the ids of the metric variables that have the same values on all replicas."""
    return {id(variable) for metric in coupling_of(model).metrics for variable in metric.variables}


def aggregations_of(model):
    """Returns how the metric variables that do not add up are brought together: id → FIRST or MEAN."""
    additive = {id(variable) for metric in coupling_of(model).additive for variable in metric.variables}
    found = {id(each): getattr(each, "aggregation", None) for each in models.metric_variables(model)}
    return {key: value for key, value in found.items() if value in (FIRST, MEAN) and key not in additive}


def coupling_of(model):
    """Returns the `Coupling` that was found for a model since it was compiled; otherwise an empty one.

    Before a training or an evaluation it may be that of its layers alone.
    """
    token = models.compile_token(model) if isinstance(model, keras.Model) else None
    return recalled(model, NAME, token, recalled(model, OF_LAYERS, token, Coupling()))
