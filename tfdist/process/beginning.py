"""When a run's process began, so that its start-up can be counted."""

import builtins
import itertools
import os
import pathlib
import sys
import time

# Only the first run of a process waited for its imports.
_RUNS = itertools.count()


def run_began() -> float:
    """Returns when the start-up of the next run of this process began, in Unix seconds.

    That is the beginning of the process for its first run. For a later one, in a notebook, and where the system does
    not say when a process began, it is now.
    """
    is_first = next(_RUNS) == 0
    is_interactive = hasattr(sys, "ps1") or hasattr(builtins, "__IPYTHON__")
    return (process_began() if is_first and not is_interactive else None) or time.time()


def process_began() -> float | None:
    """Returns when this process began, in Unix seconds; None where the system does not say so."""
    try:
        # The name of the command, in parentheses, may have spaces.
        fields = pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        since_boot = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot
    except (OSError, ValueError, IndexError, AttributeError):
        return None
    return time.time() - age if age >= 0 else None
