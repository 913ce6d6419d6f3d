"""Representatives of `gpu_kernels` have a kernel for GPUs for each of their operations; planted faults are found."""

import pytest
import tensorflow as tf
from full import evidence
from support import gpu_kernels
from support.gpu_cases import CASES

from tfdist.callbacks import desync
from tfdist.data.delivery import delivery
from tfdist.internals.access import collectives
from tfdist.synchronous.step import calls

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cpus")]

REPRESENTATIVES = (
    *("MLP with XLA, one GPU", "CNN, two GPUs", "LSTM, one GPU", "attention, two GPUs, collectives"),
    *("accumulation, two GPUs", "loss scale, two GPUs", "metrics of two classes, two GPUs"),
    *("fit on tf.data without a known end, two GPUs", "fit on a source with a pipeline, two GPUs"),
    *("compression float16, two GPUs", "factors, compression none, two GPUs", "digests of weights, two GPUs"),
    *("sums of every type, two GPUs", "rows of every type, two GPUs", "sums of every type, two GPUs, collectives"),
)


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_every_operation_of_a_program_has_a_kernel_for_gpus_or_a_reason(name):
    found = CASES[name].look()
    assert found.known > 30
    assert gpu_kernels.unexplained(found) == []


def test_the_committed_table_has_every_row_and_each_is_as_it_should_be():
    rows = evidence.read_rows(evidence.FOLDER / "gpu_kernels.md")
    assert list(rows) == list(CASES)
    assert {name for name, row in rows.items() if row["as it should be"] != "yes"} == set()


def test_a_loop_that_counts_on_the_device_is_found(monkeypatch):
    monkeypatch.setattr(calls, "_STEPS", tf.TensorSpec([], tf.int64))
    found = CASES["MLP, one GPU"].look()
    waits = [name for name in gpu_kernels.unexplained(found) if name.startswith("While(")]
    assert [wait.rpartition(" reads ")[2] for wait in waits] == ["Less(int64)"]


def test_an_end_of_the_data_that_is_read_on_the_device_is_found(monkeypatch):
    monkeypatch.setattr(delivery, "has_rows", lambda strategy, share: tf.identity(share.global_rows) > 0)
    (wait,) = gpu_kernels.unexplained(CASES["fit on tf.data without a known end, one GPU"].look())
    assert wait.startswith("If(") and wait.endswith(" reads Greater(int64)")


def test_weights_that_are_cut_as_int32_are_found(monkeypatch):
    def cut_after_the_cast(value):
        bits = tf.bitcast(tf.reshape(value, [-1]), tf.int32)
        return tf.reduce_sum(tf.cast(bits[0 : 2**22], tf.int64))

    monkeypatch.setattr(desync, "_digest", cut_after_the_cast)
    monkeypatch.setattr(gpu_kernels, "_LARGE", 64)
    found = gpu_kernels.unexplained(CASES["digests of weights, two GPUs"].look())
    assert any(name.startswith("StridedSlice(int32)") for name in found)


def test_bfloat16_for_nccl_is_found(monkeypatch):
    monkeypatch.setattr(collectives, "sums_bfloat16", lambda strategy: True)
    with pytest.raises(TypeError, match="bfloat16"):
        CASES["sums of every type, two GPUs"].look()


def test_an_operation_that_only_cpus_have_is_found():
    @tf.function
    def clock():
        with tf.device("CPU:1"):
            return tf.timestamp()

    found = gpu_kernels.look(clock.get_concrete_function().graph)
    assert found.missing == {"Timestamp()": 1}
    assert gpu_kernels.unexplained(found) == ["Timestamp()"]
