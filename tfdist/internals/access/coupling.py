"""What was found out about a model's losses and metrics: which of them need the rows of all replicas."""

from typing import NamedTuple

import keras

from tfdist.internals.access import models
from tfdist.internals.access.kept import recalled

NAME = "coupling"


class Coupling(NamedTuple):
    """What of a compiled model is computed from the rows of all replicas.

    Attributes:
        losses: the places of such losses among those given to `compile`.
        metrics: such metrics; their variables are alike on all replicas.
        additive: metrics of the user's own whose variables were seen to add up over the replicas.
        exchanges: whether something in the step exchanges rows: one of these, or an operation of tfdist's in a loss or
            a layer.
    """

    losses: tuple[int, ...] = ()
    metrics: tuple[keras.metrics.Metric, ...] = ()
    additive: tuple[keras.metrics.Metric, ...] = ()
    exchanges: bool = False


def coupling_of(model):
    """Returns the `Coupling` that was found for a model since it was compiled; otherwise an empty one."""
    return recalled(model, NAME, models.compile_token(model), Coupling())
