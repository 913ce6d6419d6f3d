"""The outputs of all replicas as one tensor, whatever their type."""

import tensorflow as tf

from tfdist.internals.access import runtime
from tfdist.internals.access.gathering import CARRIED, IN_PARTS, WIDER, decode, encode, gather, places_by_counts
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
    if not runtime.is_on_cpus(strategy):
        # NCCL's gather is known to hang: docs/decisions/devices.md.
        return strategy.experimental_local_results(run_on_replicas(strategy, _rows_of_all, outputs))[0]
    carried = run_on_replicas(strategy, encode, outputs)
    return decode(strategy.gather(carried, axis=0), dtype)


def _rows_of_all(outputs):
    places, _ = places_by_counts([outputs], "tfdist.predict")
    return gather([outputs], places, "tfdist.predict")[0]
