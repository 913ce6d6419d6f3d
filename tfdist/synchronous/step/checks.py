"""Refuses unusable outputs of a step while it is traced."""

import tensorflow as tf

from tfdist.process.errors import UsageError


def check_outputs(outputs):
    """Refuses outputs of `predict_step` that do not have one entry per row.

    Raises:
        ValueError: an output is a scalar or a sparse tensor.
    """
    for part in tf.nest.flatten(outputs):
        if isinstance(part, tf.SparseTensor) or part.shape.rank == 0:
            raise UsageError(
                f"tfdist.predict: predict_step returned {part}. Return one output for each row of the data: a dense or "
                "ragged tensor (B, ...)."
            )
