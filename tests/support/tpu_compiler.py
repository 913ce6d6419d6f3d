"""Compiles a program for TPU v5e chips without a TPU, by the compiler that the package `libtpu` contains.

Usage: python tests/support/tpu_compiler.py FILE REPLICAS: prints one JSON line about the `HloModuleProto` in FILE. Each
program is compiled in a process of its own: the compiler can end the process, and it holds another XLA than TensorFlow.
"""

import dataclasses
import importlib.util
import json
import os
import pathlib
import sys
import time

# Replicas → the smallest topology that has as many chips, and the chips of one host.
TOPOLOGIES = {1: ("v5e:1x1", (1, 1, 1)), 4: ("v5e:2x2", (2, 2, 1))}
DEADLINE_SECONDS = 900
_ENVIRON = {
    # Otherwise libtpu asks Google's metadata server which TPU this machine has, and waits for it.
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    # Otherwise one process of a machine can load libtpu, as if it used the chips.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


class NotCompiled(Exception):
    """The compiler refused a program, or ended or exceeded the deadline while it compiled."""


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler reports of a program for one chip.

    Attributes:
        seconds: the CPU time it took to compile.
        arguments, outputs, temporaries, code: bytes in the chip's memory. Variables are arguments and outputs, because
            the bridge does not say which of them share memory.
    """

    seconds: float
    arguments: int
    outputs: int
    temporaries: int
    code: int


def missing():
    """Returns what to install before anything can be compiled; None where all is there."""
    absent = [name for name in ("jax", "libtpu") if importlib.util.find_spec(name) is None]
    if not absent:
        return None
    return f"not installed: {', '.join(absent)}. Run: pip install --editable '.[tpu_compiler]'"


def compile_for_tpu(hlo, folder, replicas=1, deadline_seconds=DEADLINE_SECONDS):
    """Compiles a program.

    Args:
        hlo: a serialized `HloModuleProto`, as TensorFlow's `experimental_get_compiler_ir` returns it.
        folder: a folder for the program's file.
        replicas: the number of chips that run it, one of `TOPOLOGIES`.
        deadline_seconds: the compiler is killed after that time.

    Returns:
        A `Compiled`.

    Raises:
        NotCompiled: with the compiler's message.
    """
    # Not above: the process of the compiler must not load tfdist.
    from support.processes import run_python

    path = pathlib.Path(folder) / "program.hlo"
    path.write_bytes(hlo)
    ended = run_python(__file__, path, replicas, deadline_seconds=deadline_seconds)
    if ended.code:
        raise NotCompiled(f"exit code {ended.code}: {ended.err[-2000:]}")
    return Compiled(**json.loads(ended.out.splitlines()[-1]))


def _compile(hlo, replicas):
    from jax._src.interpreters import mlir
    from jax._src.lib import xla_client
    from jax.experimental import topologies
    from jaxlib.mlir import ir

    name, chips_per_host = TOPOLOGIES[replicas]
    topology = topologies.get_topology_desc(platform="tpu", topology_name=name, chips_per_host_bounds=chips_per_host)
    devices = xla_client.DeviceList(tuple(topology.devices))
    options = xla_client.CompileOptions()
    options.num_replicas = replicas
    with mlir.make_ir_context():
        # StableHLO is the form in which two versions of XLA can exchange programs.
        module = ir.Module.parse(xla_client._xla.mlir.hlo_to_stablehlo(hlo))
        _remove_copies(module.operation)
        began = time.process_time()
        program = topology.devices[0].client.compile(module, devices, options)
        seconds = time.process_time() - began
    memory = program.get_compiled_memory_stats()
    sizes = (memory.argument_size_in_bytes, memory.output_size_in_bytes, memory.temp_size_in_bytes)
    return Compiled(seconds, *sizes, memory.generated_code_size_in_bytes)


def _remove_copies(operation):
    """Removes XLA's copies, for which StableHLO has no operation: TensorFlow copies what a program returns."""
    for region in operation.regions:
        for each in [inner for block in region for inner in block]:
            if each.name == "mhlo.copy":
                each.result.replace_all_uses_with(each.operands[0])
                each.erase()
            else:
                _remove_copies(each)


if __name__ == "__main__":
    os.environ |= _ENVIRON
    _compiled = _compile(pathlib.Path(sys.argv[1]).read_bytes(), int(sys.argv[2]))
    print(json.dumps(dataclasses.asdict(_compiled)))
