"""Gradients of the run as a whole: global means, one reduction, then clipping and update."""

from tfdist.gradients.mean import global_mean, regularization
from tfdist.gradients.rows import gather_rows, global_loss, global_sum
from tfdist.gradients.updates import apply_gradients, reduce_gradients, update

__all__ = [
    "apply_gradients",
    "gather_rows",
    "global_loss",
    "global_mean",
    "global_sum",
    "reduce_gradients",
    "regularization",
    "update",
]
