"""Sums over the replicas, from replica context."""

import tensorflow as tf

# Collectives of a few MiB overlap; one a tensor waits for the network each time.
BYTES_PER_PACK = 4 * 2**20


def replica_context(caller):
    """Gives the replica context, or says where the call belongs.

    Raises:
        RuntimeError: called outside the function given to `strategy.run`.
    """
    context = tf.distribute.get_replica_context()
    if context is None:
        raise RuntimeError(f"{caller}: called outside the function given to strategy.run. Move the call into it.")
    return context


def gather_over_replicas(values, caller="tfdist"):
    """Gathers tensors from all replicas, in few packed collectives: zeros in the others' places, then one sum.

    Args:
        values: list of tensors of any shape, the same shapes on every replica.
        caller: who asks, for messages.

    Returns:
        The list of tensors (replicas, ...), the same on every replica.
    """
    context = replica_context(caller)
    places = tf.range(context.num_replicas_in_sync) == context.replica_id_in_sync_group
    parts = []
    for value in values:
        row = tf.convert_to_tensor(value)[tf.newaxis]
        # Chosen, not multiplied: an infinite value of one replica stays one replica's.
        parts.append(tf.where(tf.reshape(places, [-1, *[1] * (row.shape.rank - 1)]), row, tf.zeros_like(row)))
    return sum_over_replicas(parts, caller)


def sum_over_replicas(values, caller="tfdist"):
    """Sums tensors over the replicas, in few packed collectives.

    Args:
        values: list of tensors or `tf.IndexedSlices`, the same list on every replica.
        caller: who asks, for messages.

    Returns:
        The list of sums, the same on every replica.
    """
    context = replica_context(caller)
    options = tf.distribute.experimental.CommunicationOptions(bytes_per_pack=BYTES_PER_PACK)
    sums = [None] * len(values)
    # MultiWorkerMirroredStrategy packs what it is given into one tensor, and so wants one type.
    for dtype in dict.fromkeys(value.dtype for value in values):
        chosen = [index for index, value in enumerate(values) if value.dtype == dtype]
        # A tensor read from a variable carries no device, and that strategy refuses it: give it this one.
        placed = [tf.identity(v) if isinstance(v, tf.Tensor) else v for v in (values[index] for index in chosen)]
        for index, total in zip(chosen, context.all_reduce(tf.distribute.ReduceOp.SUM, placed, options), strict=True):
            sums[index] = total
    return sums
