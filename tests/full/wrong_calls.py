"""Runs every wrong command line of `support.wrong_calls` in a real process, and writes the table of what is said.

Usage: python tests/full/wrong_calls.py [--missing] [part of a row's name ...], as in `evidence.measure`; exit
code 1 where a row is not as it should be.
"""

import functools
import os
import pathlib
import resource
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path[:0] = [str(pathlib.Path(__file__).parents[1]), str(pathlib.Path(__file__).parents[2])]

from full import evidence  # noqa: E402
from support.processes import run_python  # noqa: E402
from support.wrong_calls import COMMANDS  # noqa: E402

COMMAND = "python tests/full/wrong_calls.py"
COLUMNS = ("call", "exit code", "CPU seconds", "as it should be", "message")
# For what is found out before TensorFlow is loaded, and after.
SECONDS, SECONDS_AFTER = 2, 10
DEADLINE_SECONDS = 60


def run(row, folder):
    """Runs a command line; returns its cells."""
    began = _cpu_seconds()
    ended = run_python(
        *("-m", f"tfdist.{row.command}", *row.flags),
        folder=folder,
        environ=dict(row.environ),
        deadline_seconds=DEADLINE_SECONDS,
    )
    seconds = _cpu_seconds() - began
    lines = [line for line in ended.err.splitlines() if line.startswith(f"tfdist.{row.command}: ")]
    right = (
        ended.code == row.code
        and len(lines) == 1
        and row.message in lines[0]
        and "Traceback" not in ended.err
        and seconds < (SECONDS_AFTER if row.loads else SECONDS)
    )
    said = (lines or [ended.err[-200:]])[0].replace(str(pathlib.Path.home()), "~")
    return [str(row), ended.code, f"{seconds:.1f}", "yes" if right else "NO", said]


def _cpu_seconds():
    """Returns the CPU time of all processes that have ended: time on the clock depends on what else runs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(arguments):
    """Runs the rows; returns the exit code."""
    page = {"name": "wrong_calls", "title": "Wrong command lines, each in a process of its own"}
    with tempfile.TemporaryDirectory() as name:
        in_folder = functools.partial(run, folder=pathlib.Path(name))
        return evidence.measure(COMMANDS, in_folder, arguments, **page, command=COMMAND, columns=COLUMNS)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
