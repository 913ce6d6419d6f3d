"""The processor cores of this machine, and each worker's share of them."""

import os
from collections.abc import Sequence


def divide_cores(cores: Sequence[int], tasks: int) -> tuple[tuple[int, ...], ...] | None:
    """Divides the cores of one host evenly and in order among its tasks; a remainder is left out.

    Synchronous tasks that share cores wait for one another: on two cores, two workers of a small model were 1.4 to 1.7
    times as fast with one core each.

    Args:
      cores: the numbers of the cores.
      tasks: the number of tasks on the host.

    Returns:
      Each task's cores; None where there are fewer cores than tasks.
    """
    share = len(cores) // tasks
    return tuple(tuple(cores[index * share : (index + 1) * share]) for index in range(tasks)) if share else None


def processors() -> int:
    """Counts the processors that this process may use, which is TensorFlow's default number of threads."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def core_shares(tasks: int) -> tuple[tuple[int, ...], ...] | None:
    """Returns the cores that this process may use, divided among `tasks` tasks; None where each task uses all."""
    if tasks == 1 or not hasattr(os, "sched_getaffinity"):
        return None
    return divide_cores(sorted(os.sched_getaffinity(0)), tasks)
