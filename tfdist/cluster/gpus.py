"""This host's GPUs: which ones a process may use (CUDA_VISIBLE_DEVICES), and each process' share of them."""

import itertools
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence

from tfdist.process.errors import UsageError

VARIABLE = "CUDA_VISIBLE_DEVICES"
# The launcher sets it where several workers use one GPU, which NCCL does not allow.
SHARING = "TFDIST_WORKERS_PER_GPU"
# Logical CPU devices stand in for GPUs in trials. TensorFlow traces the step once for each, and they share the cores.
_MOST_LOGICAL_CPUS = 64


def read_visible(environ: Mapping[str, str]) -> tuple[str, ...] | None:
    """Returns the ids of the GPUs that CUDA_VISIBLE_DEVICES lists; None where it is not set, and all are visible."""
    listed = environ.get(VARIABLE)
    return None if listed is None else parse_ids(listed)


def parse_ids(text: str) -> tuple[str, ...]:
    """Returns the ids of a list as in CUDA_VISIBLE_DEVICES, which ends at the first name that is not a device."""
    ids = (item.strip() for item in text.split(","))
    return tuple(itertools.takewhile(lambda gpu: gpu not in ("", "none", "NoDevFiles") and gpu[0] != "-", ids))


def visible(ids: Iterable[str]) -> dict[str, str]:
    """Returns the variable that leaves only these GPUs visible to a process."""
    return {VARIABLE: ",".join(ids)}


def count_gpus(environ: Mapping[str, str], device_folder: str | pathlib.Path = "/dev") -> int:
    """Counts the NVIDIA GPUs that a process with this environment may use, without loading a library."""
    present = sum(bool(re.fullmatch(r"nvidia\d+", path.name)) for path in pathlib.Path(device_folder).glob("nvidia*"))
    ids = read_visible(environ)
    return present if ids is None else min(present, len(ids))


def workers_per_gpu(environ: Mapping[str, str]) -> int:
    """Returns how many workers use each GPU of this worker, itself included."""
    text = environ.get(SHARING, "")
    return max(1, int(text)) if text.isdecimal() else 1


def check_logical_cpus(replicas: int) -> None:
    """Checks that a CPU can be split into so many logical devices.

    Raises:
        UsageError: they are too many to be of use.
    """
    if replicas > _MOST_LOGICAL_CPUS:
        raise UsageError(
            f"strategy: replicas is {replicas}, but this machine has no GPU, and all replicas would share its CPU. Use "
            f"{_MOST_LOGICAL_CPUS} or fewer."
        )


def divide_gpus(gpus: int | Sequence[str], tasks: int, index: int) -> tuple[str, ...]:
    """Divides the GPUs of one host evenly and in order among its tasks.

    Args:
        gpus: the number of GPUs, or their ids.
        tasks: the number of tasks on the host.
        index: the task's index, in 0..tasks-1.

    Returns:
        The ids of that task's GPUs.

    Raises:
        UsageError: the GPUs are fewer than the tasks, or do not divide evenly.
    """
    ids = tuple(map(str, range(gpus))) if isinstance(gpus, int) else tuple(gpus)
    share, rest = divmod(len(ids), tasks)
    if not share or rest:
        problem = "which do not divide evenly among" if share else "too few for"
        raise UsageError(
            f"GPUs: this host has {len(ids)} GPU{'s' * (len(ids) != 1)}, {problem} its {tasks} tasks. "
            "Start a number of tasks per host that divides the number of GPUs, "
            f'or use no GPU at all with {VARIABLE}="".'
        )
    return ids[index * share : (index + 1) * share]
