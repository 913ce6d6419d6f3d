"""Representatives of `gpu_kernels` have a kernel for GPUs for each of their operations; planted faults are found."""

import pytest
import tensorflow as tf
from support import gpu_kernels
from support.gpu_cases import CASES, STRATEGIES, TYPES

from tfdist.internals.access import collectives
from tfdist.internals.access.tracing import compiled
from tfdist.strategy.replicas import run_on_replicas
from tfdist.synchronous.step import calls

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cpus")]

REPRESENTATIVES = (
    *("MLP, one GPU", "CNN, two GPUs", "LSTM without XLA, one GPU", "attention, two GPUs, collectives"),
    *("accumulation, two GPUs", "loss scale, two GPUs", "metrics of two classes, two GPUs"),
    *("fit on tf.data without a known end, two GPUs", "fit on a source with a pipeline, two GPUs"),
    *("compression float16, two GPUs", "factors, compression none, two GPUs", "digests of weights, two GPUs"),
)


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_every_operation_of_a_program_has_a_kernel_for_gpus_or_a_reason(name):
    found = CASES[name].look()
    assert found.known > 30
    assert gpu_kernels.unexplained(found) == []
