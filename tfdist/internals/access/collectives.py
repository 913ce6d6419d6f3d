"""Sums over the replicas, from replica context."""

import tensorflow as tf

from tfdist.internals.access import runtime, tpu
from tfdist.internals.access.dependence import note_sums
from tfdist.process.errors import StateError

# A collective for each small tensor would wait for the network each time. Collectives of large packs begin later, and
# their copies need new memory from the system: 94 MB took 84 ms in packs of 1 MiB, 88 ms of 2 MiB, 107 ms of 4 MiB
# (two workers of one machine).
BYTES_PER_PACK = 2**20
# On GPUs each pack is a kernel that all devices start together, so there are to be few: docs/decisions/devices.md.
BYTES_PER_PACK_ON_GPUS = 2**25
# TensorFlow packs small tensors together, but never splits a large one.
BYTES_PER_PIECE = 2**20
# Between hosts, a gather overlaps with the computation of the next gradients. Within one host it does not, and fewer
# packs are better. Dense layers on two workers: 55 ms a step in packs of 1 MiB, 51 ms of 4 MiB; over 1 Gbit/s, 66 and
# 82 ms.
BYTES_PER_GATHER_IN_HOST = 2**22
_SHIFTS = (0, 16, 32, 48)


def replica_context(caller):
    """Returns the replica context.

    Raises:
        RuntimeError: called outside the function given to `strategy.run`.
    """
    context = tf.distribute.get_replica_context()
    if context is None:
        raise StateError(f"{caller}: called outside the function given to strategy.run. Move the call into it.")
    return context


def gather_over_replicas(values, caller="tfdist"):
    """Gathers tensors from all replicas, in few packed collectives.

    Each replica puts zeros in the places of the others; the sum over the replicas is the gathered tensor.

    Args:
        values: list of tensors of any shape, the same shapes on every replica.
        caller: the name of the caller, for messages.

    Returns:
        The list of tensors (replicas, ...), the same on every replica.
    """
    context = replica_context(caller)
    places = tf.range(context.num_replicas_in_sync) == context.replica_id_in_sync_group
    parts = []
    for value in values:
        row = tf.convert_to_tensor(value)[tf.newaxis]
        # `tf.where`, not a product: an infinite value times zero is NaN, and would spoil the places of the others.
        parts.append(tf.where(tf.reshape(places, [-1, *[1] * (row.shape.rank - 1)]), row, tf.zeros_like(row)))
    return sum_over_replicas(parts, caller)


def are_same_on_all(values):
    """Returns whether eager tensors have the very same bytes on all replicas."""
    return all(len({part.numpy().tobytes() for part in tf.unstack(each)}) == 1 for each in gather_over_replicas(values))


def gather_rows(values, caller="tfdist"):
    """Gathers matrices from all replicas and stacks their rows.

    Args:
        values: list of tensors (rows, columns), with a known number of columns. An unknown number of rows may differ
            between replicas. Between processes, tensors with a known number go together in few packed collectives.
        caller: the name of the caller, for messages.

    Returns:
        The list of tensors (rows of all replicas, columns), the same on every replica.
    """
    context = replica_context(caller)
    gathered = [None] * len(values)
    packs = _packs(values, bytes_per_gather(context.strategy)) if _between_cpus(context) else _alone(values)
    for pack in packs:
        if len(pack) == 1:
            (place,) = pack
            whole = _gather(context, values[place])
            gathered[place] = tf.ensure_shape(whole, [None, values[place].shape[1]])
            continue
        flat = tf.concat([tf.reshape(values[place], [1, -1]) for place in pack], axis=1)
        whole = tf.ensure_shape(_gather(context, flat), [None, flat.shape[1]])
        parts = tf.split(whole, [values[place].shape.num_elements() for place in pack], axis=1)
        for place, part in zip(pack, parts, strict=True):
            gathered[place] = tf.reshape(part, [-1, values[place].shape[1]])
    return gathered


def _alone(values):
    return [[place] for place in range(len(values))]


def bytes_per_gather(strategy):
    """Returns how many bytes of rows the workers of a multi-worker strategy gather in one pack."""
    jobs = strategy.cluster_resolver.cluster_spec().as_dict()
    hosts = {address.rpartition(":")[0] for addresses in jobs.values() for address in addresses}
    return BYTES_PER_PACK if len(hosts) > 1 else BYTES_PER_GATHER_IN_HOST


def _packs(values, most):
    """Yields the places of values that share a pack, from the last to the first: gradients are ready in that order."""
    pack, size = [], 0
    for place in reversed(range(len(values))):
        value = values[place]
        known = value.shape.is_fully_defined()
        more = value.shape.num_elements() * value.dtype.size if known else most
        if pack and (size + more > most or value.dtype != values[pack[-1]].dtype):
            yield pack
            pack, size = [], 0
        pack.append(place)
        size += more
    if pack:
        yield pack


def _gather(context, value):
    if isinstance(context.strategy, tf.distribute.MirroredStrategy):
        gathered = tf.identity(context.merge_call(_concatenated_on_each, args=(tf.identity(value),)))
    elif _gathers_itself(context, value):
        # Between processes all have the same shape.
        wide = tf.cast(value, tf.float32) if value.dtype == tf.bfloat16 else value
        (rows,) = gather_over_replicas([wide])
        return tf.cast(tf.reshape(rows, [-1, *rows.shape[2:]]), value.dtype)
    else:
        is_bfloat16 = value.dtype == tf.bfloat16
        # TensorFlow's gather takes no bfloat16, so its bits go as float16; it refuses a tensor without a device.
        bits = tf.bitcast(value, tf.float16) if is_bfloat16 else tf.identity(value)
        gathered = tf.identity(context.all_gather(bits, axis=0))
        gathered = tf.bitcast(gathered, tf.bfloat16) if is_bfloat16 else gathered
    note_sums([gathered])
    return gathered


def _concatenated_on_each(strategy, parts):
    """Concatenates the replicas' values on the device of each: all are in this process, so no collective is needed."""
    parts = strategy.experimental_local_results(parts)
    wholes = []
    for part in parts:
        with tf.device(part.device):
            wholes.append(tf.concat(parts, axis=0))
    return strategy.experimental_distribute_values_from_function(
        lambda context: wholes[context.replica_id_in_sync_group]
    )


def sum_over_replicas(values, caller="tfdist"):
    """Sums tensors over the replicas, in few packed collectives.

    Args:
        values: list of tensors or `tf.IndexedSlices`, the same list on every replica.
        caller: the name of the caller, for messages.

    Returns:
        The list of sums, the same on every replica.
    """
    context = replica_context(caller)
    if context.num_replicas_in_sync == 1:
        return [value if isinstance(value, tf.IndexedSlices) else tf.convert_to_tensor(value) for value in values]
    if tpu.is_tpu(context.strategy) and any(value.dtype == tf.int64 for value in values):
        sums = sum_over_replicas([_narrow(value) if value.dtype == tf.int64 else value for value in values], caller)
        return [_wide(s) if v.dtype == tf.int64 else s for s, v in zip(sums, values, strict=True)]
    pack = BYTES_PER_PACK if runtime.is_on_cpus(context.strategy) else BYTES_PER_PACK_ON_GPUS
    options = tf.distribute.experimental.CommunicationOptions(bytes_per_pack=pack)
    sums = [_summed_rows(context, value) for value in values]
    split = _pieces if _between_cpus(context) else lambda value: [value]
    wide = {} if sums_bfloat16(context.strategy) else {tf.bfloat16: tf.float32}
    for dtype, chosen in _groups(context, values, [place for place, total in enumerate(sums) if total is None]):
        # A tensor read from a variable has no device, and that strategy refuses it; `tf.identity` gives it one.
        placed = [_placed(values[index], wide.get(dtype, dtype)) for index in chosen]
        pieces = [split(value) for value in placed]
        flat = [piece for some in pieces for piece in some]
        totals = iter(_all_reduced(flat, options))
        for index, value, some in zip(chosen, placed, pieces, strict=True):
            together = [next(totals) for _ in some]
            total = together[0] if len(some) == 1 else tf.reshape(tf.concat(together, 0), value.shape)
            sums[index] = total if total.dtype == dtype else tf.cast(total, dtype)
    return sums


def _groups(context, values, places):
    """Yields (type, places) of values that are summed together."""
    # MultiWorkerMirroredStrategy packs its tensors into one, and so needs one type.
    for dtype in dict.fromkeys(values[place].dtype for place in places):
        chosen = [place for place in places if values[place].dtype == dtype]
        # MirroredStrategy sums int32 on the host, and refuses several together.
        alone = dtype == tf.int32 and isinstance(context.strategy, tf.distribute.MirroredStrategy)
        yield from (((dtype, [place]) for place in chosen) if alone else [(dtype, chosen)])


def _summed_rows(context, value):
    """Returns the sum of `tf.IndexedSlices` where tfdist gathers them itself, else None."""
    if not isinstance(value, tf.IndexedSlices) or not _gathers_itself(context, value.values):
        return None
    return tf.IndexedSlices(_gather(context, value.values), _gather(context, value.indices), value.dense_shape)


def _gathers_itself(context, value):
    """Returns whether `_gather` asks TensorFlow for no gather, which is known to hang on GPUs with NCCL."""
    if isinstance(context.strategy, tf.distribute.MirroredStrategy):
        return True
    return _between_processes(context) and not _between_cpus(context) and value.shape.is_fully_defined()


def sums_bfloat16(strategy):
    """Returns whether a strategy sums bfloat16 as it is: `NcclAllReduce` among the GPUs of one process does not."""
    return not isinstance(getattr(strategy.extended, "_cross_device_ops", None), tf.distribute.NcclAllReduce)


def _placed(value, dtype):
    if not isinstance(value, tf.Tensor):
        return value
    return tf.identity(value) if value.dtype == dtype else tf.cast(value, dtype)


def _narrow(value):
    """Returns the four parts, of 16 bits each, of int64 numbers: a TPU sums no int64."""
    shifted = tf.stack([tf.bitwise.right_shift(value, tf.constant(shift, tf.int64)) for shift in _SHIFTS])
    return tf.cast(tf.bitwise.bitwise_and(shifted, tf.constant(0xFFFF, tf.int64)), tf.int32)


def _wide(sums):
    """Returns the sums of numbers from those of their parts, which are exact for up to 2**15 replicas."""
    parts = zip(tf.unstack(tf.cast(sums, tf.int64)), _SHIFTS, strict=True)
    return tf.add_n([tf.bitwise.left_shift(part, tf.constant(shift, tf.int64)) for part, shift in parts])


def _all_reduced(values, options):
    """Sums as `ReplicaContext.all_reduce` does, but takes less time to trace.

    TensorFlow wraps its sums in `tf.custom_gradient`, which searches the graph behind them for variables. Where a sum
    depends on other replicas' values, this search visits all that those replicas have computed, again for each
    collective. It took half of the time to trace ResNet-20 on two replicas.
    """
    if not all(isinstance(value, tf.Tensor) for value in values):
        return _reduced(values, options)
    sums = _reduced([tf.stop_gradient(value) for value in values], options)

    @tf.custom_gradient
    def with_gradient(*both):
        def gradient(*upstream):
            # The gradient of a sum over all replicas is such a sum.
            return [*_all_reduced(upstream, options), *[None] * len(sums)]

        return [tf.identity(value) for value in both[len(sums) :]], gradient

    summed = with_gradient(*values, *sums)
    note_sums(summed)
    return summed


def _reduced(values, options):
    strategy = tf.distribute.get_replica_context().strategy
    return strategy.extended._replica_ctx_all_reduce(tf.distribute.ReduceOp.SUM, values, options)


def _between_processes(context):
    return isinstance(context.strategy, tf.distribute.MultiWorkerMirroredStrategy)


def _between_cpus(context):
    """Returns whether the replicas exchange between CPUs over a network; NCCL splits and overlaps by itself."""
    return _between_processes(context) and runtime.is_on_cpus(context.strategy)


def _pieces(value):
    """Splits a large tensor into flat pieces; returns any other value as the only piece."""
    if not isinstance(value, tf.Tensor) or not value.shape.is_fully_defined():
        return [value]
    elements, most = value.shape.num_elements(), BYTES_PER_PIECE // value.dtype.size
    if elements <= most:
        return [value]
    sizes = [min(most, elements - first) for first in range(0, elements, most)]
    return tf.split(tf.reshape(value, [-1]), sizes)
