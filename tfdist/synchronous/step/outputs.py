"""The outputs of all replicas as one tensor, whatever their type."""

import tensorflow as tf

from tfdist.internals.access.gathering import CARRIED, IN_PARTS, WIDER, decode, encode
from tfdist.process.errors import UsageError
from tfdist.strategy.replicas import run_on_replicas


def concatenate_replicas(strategy, outputs):
    """Returns the rows of all replicas in their order, on every worker: a dense or ragged tensor.

    Args:
        strategy: the `tf.distribute.Strategy`.
        outputs: a per-replica tensor (B, ...), with any number of rows on each replica.

    Raises:
        ValueError: workers would have to exchange strings or ragged rows, which TensorFlow cannot.
    """
    own = strategy.experimental_local_results(outputs)
    if len(own) == strategy.num_replicas_in_sync:
        return own[0] if len(own) == 1 else tf.concat(own, axis=0)
    dtype = own[0].dtype
    if isinstance(own[0], tf.RaggedTensor) or dtype not in (*CARRIED, *WIDER, *IN_PARTS):
        kind = "ragged rows" if isinstance(own[0], tf.RaggedTensor) else dtype.name
        raise UsageError(
            f"tfdist.predict: predict_step returned {kind}, which workers cannot exchange. Use "
            "tfdist.predict(…, own_rows=True), with which each worker gets its own rows, or return numbers."
        )
    carried = run_on_replicas(strategy, encode, outputs)
    return decode(strategy.gather(carried, axis=0), dtype)
