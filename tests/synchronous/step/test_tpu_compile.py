"""Compiles a whole step for a TPU without a TPU; `tests/full/tpu_compile.py` does so for every model."""

import pytest
import tensorflow as tf
from support import tpu_compiler
from support.tpu_programs import TpuProgram, mlp

from tfdist.internals.access.tracing import compiled

MISSING = tpu_compiler.missing()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(MISSING is not None, reason=f"{MISSING}")]
BYTES_OF_FLOAT32 = 4


def test_a_padded_training_step_with_its_reduction_compiles_for_four_chips(tmp_path):
    program = TpuProgram(mlp, "fit", replicas=4)
    compiled = tpu_compiler.compile_for_tpu(program.hlo(), tmp_path, replicas=4)
    parameters = 784 * 128 + 128 + 128 * 10 + 10
    # Adam keeps two moments for each parameter, and all are updated.
    assert compiled.arguments > 3 * parameters * BYTES_OF_FLOAT32
    assert compiled.outputs > 3 * parameters * BYTES_OF_FLOAT32


def test_an_operation_that_a_tpu_lacks_is_an_error_with_its_name(tmp_path):
    function = compiled(tf.abs, jit_compile=True)
    hlo = function.experimental_get_compiler_ir(tf.TensorSpec([4], tf.complex128))(stage="hlo_serialized")
    with pytest.raises(tpu_compiler.NotCompiled, match="C128"):
        tpu_compiler.compile_for_tpu(hlo, tmp_path)
