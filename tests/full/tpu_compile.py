"""Compiles whole steps of models for TPU v5e chips, without a TPU, and writes the table of what they need.

Usage: python tests/full/tpu_compile.py [--missing] [part of a row's name ...], as in `evidence.measure`; exit
code 1 where a row is not as it should be.
"""

import os
import pathlib
import sys
import tempfile
from importlib import metadata

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path[:0] = [str(pathlib.Path(__file__).parents[1]), str(pathlib.Path(__file__).parents[2])]

from full import evidence  # noqa: E402
from support import tpu_compiler, tpu_programs  # noqa: E402

COMMAND = "python tests/full/tpu_compile.py"
FIGURES = ("arguments", "outputs", "temporaries", "code")
COLUMNS = ("program", "as it should be", "CPU seconds", *(f"{name}, MB" for name in FIGURES), "error")
TITLE = """Whole steps, compiled for TPU v5e chips without a TPU

Each program is what one chip computes in a step, with rows that pad the batch: forward pass, loss, gradients, their sum
over the chips, Adam's update and the metrics; or evaluation; or prediction. TensorFlow lowers it to HLO, and the TPU's
own compiler, from the package `libtpu`, compiles that. The figures are the compiler's, for one chip, in 10⁶ bytes.
Variables count among the arguments and again among the outputs. Nothing ran, so no number and no time was compared. The
sum over chips is XLA's own operation, because stock TensorFlow lowers that of `TPUStrategy` for a TPU alone. The steps
of larger ResNets take the compiler minutes each and are not in the table: add `resnet` to the command."""


def run(row):
    """Compiles a program; returns its cells."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            compiled = tpu_compiler.compile_for_tpu(row.hlo(), folder, row.replicas)
    except tpu_compiler.NotCompiled as error:
        return [str(row), "NO", "", *("" for _ in FIGURES), str(error)[-200:]]
    figures = (f"{getattr(compiled, name) / 1e6:.1f}" for name in FIGURES)
    return [str(row), "yes", f"{compiled.seconds:.1f}", *figures, ""]


def main(arguments):
    """Runs the rows; returns the exit code."""
    if reason := tpu_compiler.missing():
        print(f"tpu_compile: {reason}", file=sys.stderr)
        return 2
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("jax", "libtpu"))
    page = {"name": "tpu_compile", "title": f"{TITLE} Versions: {versions}.", "command": COMMAND, "columns": COLUMNS}
    return evidence.measure(tpu_programs.PROGRAMS, run, arguments, **page)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
