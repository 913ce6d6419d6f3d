"""What crosses between replicas in one process, and in which type; `gpu_kernels` has the types for GPUs."""

import numpy as np
import pytest
import tensorflow as tf

from tfdist.internals.access import collectives, runtime
from tfdist.strategy.replicas import run_on_replicas

pytestmark = pytest.mark.core


def on_replicas(strategy, function):
    """Returns what a function (number of the replica) returns on each replica, in a compiled function."""

    @tf.function(autograph=False)
    def call():
        results = run_on_replicas(
            strategy, lambda: function(tf.distribute.get_replica_context().replica_id_in_sync_group)
        )
        return strategy.experimental_local_results(results)

    return call


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16, tf.int64])
@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_rows_are_gathered_without_a_collective_whatever_their_number(make_strategy, replicas, dtype):
    def gather(replica):
        rows = tf.range((replica + 1) * 2) + 10 * replica
        return collectives.gather_rows([tf.cast(tf.reshape(rows, [-1, 2]), dtype)])[0]

    call = on_replicas(make_strategy(replicas), gather)
    rows = [np.reshape(np.arange((number + 1) * 2) + 10 * number, [-1, 2]) for number in range(replicas)]
    for part in call():
        assert part.dtype == dtype
        np.testing.assert_array_equal(tf.cast(part, tf.int32), np.concatenate(rows))


def test_no_strategy_of_one_process_asks_for_a_collective_gather(cpus):
    strategy = tf.distribute.MirroredStrategy(cpus[:2])
    call = on_replicas(strategy, lambda replica: collectives.gather_rows([tf.ones([3, 2])]))
    kinds = {operation.type for operation in call.get_concrete_function().graph.get_operations()}
    assert "ConcatV2" in kinds
    assert not any("Collective" in kind for kind in kinds)


@pytest.mark.parametrize("dtype", [tf.int32, tf.int64, tf.bfloat16])
def test_several_numbers_of_one_type_are_summed(make_strategy, dtype):
    def sums(replica):
        return collectives.sum_over_replicas([tf.cast([replica, 2], dtype), tf.cast(replica, dtype)])

    for vector, scalar in on_replicas(make_strategy(3), sums)():
        assert (tf.cast(vector, tf.int32).numpy().tolist(), int(scalar)) == ([3, 6], 3)


def test_looked_up_rows_of_all_replicas_are_put_together_in_order(make_strategy):
    def sums(replica):
        rows = tf.range(replica + 1)
        values = tf.cast(tf.reshape(rows + 10 * replica, [-1, 1]), tf.float32)
        (total,) = collectives.sum_over_replicas([tf.IndexedSlices(values, rows, tf.constant([5, 1]))])
        return total.values, total.indices

    for values, indices in on_replicas(make_strategy(2), sums)():
        assert (values.numpy().ravel().tolist(), indices.numpy().tolist()) == ([0.0, 10.0, 11.0], [0, 0, 1])


def test_bfloat16_is_summed_in_float32_where_nccl_sums(cpus, make_strategy):
    def sums(replica):
        return collectives.sum_over_replicas([tf.ones([3], tf.bfloat16), tf.ones([2]), tf.constant(2, tf.int64)])

    nccl = tf.distribute.MirroredStrategy(cpus[:2], cross_device_ops=tf.distribute.NcclAllReduce())
    assert not collectives.sums_bfloat16(nccl)
    assert collectives.sums_bfloat16(make_strategy(2)) and collectives.sums_bfloat16(make_strategy(1))
    graph = on_replicas(nccl, sums).get_concrete_function()
    assert [part.dtype for part in graph.outputs] == [tf.bfloat16, tf.float32, tf.int64] * 2
    reduced = [op.get_attr("T") for op in graph.graph.get_operations() if op.type == "NcclAllReduce"]
    assert set(reduced) == {tf.float32, tf.int64}


@pytest.mark.parametrize(("is_on_cpus", "packs"), [(True, 3), (False, 1)])
def test_packs_are_larger_on_gpus(cpus, monkeypatch, is_on_cpus, packs):
    monkeypatch.setattr(runtime, "is_on_cpus", lambda strategy: is_on_cpus)
    # Three tensors of 2 MiB each: by the collectives that take a size of packs.
    strategy = tf.distribute.MirroredStrategy(cpus[:2])
    call = on_replicas(strategy, lambda replica: collectives.sum_over_replicas([tf.ones([2**19])] * 3))
    operations = call.get_concrete_function().graph.get_operations()
    assert sum("CollectiveReduce" in operation.type for operation in operations) == 2 * packs
