"""The outputs of all replicas as one tensor, whatever their type."""

import tensorflow as tf

from tfdist.process.errors import UsageError
from tfdist.strategy.replicas import run_on_replicas

# What TensorFlow's collectives take.
_CARRIED = (tf.float16, tf.float32, tf.float64, tf.int32, tf.int64)
# Type → one that is carried and has a value for each of its own.
_WIDER = {
    **dict.fromkeys((tf.bool, tf.int8, tf.uint8, tf.int16, tf.uint16), tf.int32),
    tf.bfloat16: tf.float32,
    tf.uint32: tf.int64,
}
_IN_PARTS = (tf.complex64, tf.complex128, tf.uint64)


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
    if isinstance(own[0], tf.RaggedTensor) or dtype not in (*_CARRIED, *_WIDER, *_IN_PARTS):
        kind = "ragged rows" if isinstance(own[0], tf.RaggedTensor) else dtype.name
        raise UsageError(
            f"tfdist.predict: predict_step returned {kind}, which workers cannot exchange. Use "
            "tfdist.predict(…, own_rows=True), with which each worker gets its own rows, or return numbers."
        )
    carried = run_on_replicas(strategy, _encode, outputs)
    return _decode(strategy.gather(carried, axis=0), dtype)


def _encode(values):
    if values.dtype.is_complex:
        return tf.stack([tf.math.real(values), tf.math.imag(values)], axis=-1)
    if values.dtype == tf.uint64:
        return tf.bitcast(values, tf.int64)
    return tf.cast(values, _WIDER.get(values.dtype, values.dtype))


def _decode(values, dtype):
    if dtype.is_complex:
        return tf.complex(values[..., 0], values[..., 1])
    return tf.bitcast(values, dtype) if dtype == tf.uint64 else tf.cast(values, dtype)
