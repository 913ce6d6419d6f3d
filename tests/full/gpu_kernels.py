"""Looks every case of `support.gpu_cases` up in the registry of GPU kernels, and writes the table of what was found.

Usage: python tests/full/gpu_kernels.py [--missing] [part of a row's name ...], as in `evidence.measure`; exit
code 1 where a row is not as it should be.
"""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path[:0] = [str(pathlib.Path(__file__).parents[1]), str(pathlib.Path(__file__).parents[2])]

from full import evidence  # noqa: E402
from support.gpu_cases import CASES  # noqa: E402
from support.gpu_kernels import unexplained  # noqa: E402

from tfdist.strategy import hardware  # noqa: E402

COMMAND = "python tests/full/gpu_kernels.py"
TITLE = """Operations and GPU kernels

Each program was traced on a CPU as for GPUs, and each of its operations looked up in the registry of kernels that
TensorFlow's own wheel carries. Nothing ran on a GPU. Columns: operations with a kernel for GPUs; those without one;
large arguments that a kernel takes from the host's memory; what the host reads from a GPU, and waits for."""
COLUMNS = ("row", "kernels", "as it should be", "without a kernel", "large and on the host", "read by the host")


def run(case):
    """Looks a case up; returns its cells."""
    found = case.look()
    right = "NO" if unexplained(found) else "yes"
    return [str(case), found.known, right, *(_text(part) for part in (found.missing, found.large, found.reads))]


def _text(counts):
    return "; ".join(f"{count} × {name}" for name, count in sorted(counts.items())) or "none"


def main(arguments):
    """Runs the rows; returns the exit code."""
    hardware.logical_cpus(4)
    page = {"name": "gpu_kernels", "title": TITLE, "command": COMMAND, "columns": COLUMNS}
    return evidence.measure(CASES.values(), run, arguments, **page)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
