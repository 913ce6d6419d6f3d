"""Launchers whose processes tfdist cannot bring together, so that each would train a model of its own."""

import pathlib
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, NoReturn

from tfdist.cluster.addresses import ClusterError
from tfdist.cluster.group import ALONE_ADVICE


class Sign(NamedTuple):
    """A variable that tells of several processes.

    Attributes:
        name, value: the variable.
        processes: how many processes it tells of; None where it has only the number of this one.
    """

    name: str
    value: str
    processes: int | None


def detect(environ: Mapping[str, str]) -> str | None:
    """Returns the first variable that tells of several processes; None for one process, or no launcher."""
    sign = find_sign(environ)
    return sign.name if sign else None


def read(environ: Mapping[str, str]) -> NoReturn:
    """Refuses the processes of a launcher.

    Raises:
        ClusterError: always; the message names the launcher's variable, and what to set.
    """
    name, value, processes = find_sign(environ) or Sign("", "", None)
    shown = ascii(value) if len(value) <= 60 else f"{value[:60]!a}..."
    cure = next((cure for prefix, cure in _CURES if name.startswith(prefix)), _by_numbers("its number", "N", "HOST"))
    raise ClusterError(
        f"{name} is {shown}, which tells of {processes or 'other'} processes, but no variable that tfdist reads has "
        f"their addresses, so each would train a model of its own. {cure} {ALONE_ADVICE}"
    )


def find_sign(environ: Mapping[str, str]) -> Sign | None:
    """Returns the first `Sign` of several processes; None for one process, or no launcher."""
    counts = [
        Sign(name, environ[name], count)
        for name, read in _COUNTS
        if environ.get(name) and (count := read(environ[name])) is not None
    ]
    for sign in counts:
        if sign.processes and sign.processes > 1:
            return sign
    for name, first in _INDICES:
        # The first number may be that of the only process, and another variable may say so.
        index = _number(environ.get(name, ""))
        if index is not None and (index > first or not counts):
            return Sign(name, environ[name], None)
    return None


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch("[0-9]{1,9}", text.strip()) else None


def _words(text: str) -> int | None:
    """Counts the different words."""
    return len(set(text.split())) or None


def _lines(path: str) -> int | None:
    """Counts the different lines of a file."""
    try:
        return _words(pathlib.Path(path).read_text(errors="replace"))
    except (OSError, ValueError):
        return None


def _by_numbers(rank: str, size: str, host: str) -> str:
    return (
        f"In each process set TFDIST_RANK={rank}, TFDIST_SIZE={size} and TFDIST_COORDINATOR={host} (the host of "
        "process 0), or set TF_CONFIG."
    )


_COUNTS: tuple[tuple[str, Callable[[str], int | None]], ...] = (
    ("MV2_COMM_WORLD_SIZE", _number),
    ("JSM_NAMESPACE_SIZE", _number),
    ("LSB_HOSTS", _words),
    ("PBS_NODEFILE", _lines),
    ("PMIX_SIZE", _number),
    ("LWS_GROUP_SIZE", _number),
    ("PET_NNODES", _number),
    ("JAX_NUM_PROCESSES", _number),
    ("SKYPILOT_NUM_NODES", _number),
    ("VC_WORKER_NUM", _number),
    # Read elsewhere. Here they tell that a process is alone, or they contradict a step of one task.
    ("OMPI_COMM_WORLD_SIZE", _number),
    ("PMI_SIZE", _number),
    ("WORLD_SIZE", _number),
    ("SLURM_STEP_NUM_TASKS", _number),
)
# The variable with the number of this process, and the first number.
_INDICES = (
    ("JOB_COMPLETION_INDEX", 0),
    ("PMIX_RANK", 0),
    ("PMI_RANK", 0),
    ("OMPI_COMM_WORLD_RANK", 0),
    ("MV2_COMM_WORLD_RANK", 0),
    ("JSM_NAMESPACE_RANK", 0),
    ("LSF_PM_TASKID", 1),
    ("PBS_NODENUM", 0),
    ("LWS_WORKER_INDEX", 0),
    ("VC_TASK_INDEX", 0),
)
# The beginning of a variable's name → what to do.
_CURES = (
    ("MV2_", _by_numbers("$MV2_COMM_WORLD_RANK", "$MV2_COMM_WORLD_SIZE", "HOST")),
    ("JSM_", _by_numbers("$JSM_NAMESPACE_RANK", "$JSM_NAMESPACE_SIZE", "HOST")),
    ("LSB_", "LSF has reserved several hosts: start one process for each worker with mpirun, or with tfdist.launch."),
    ("LSF_", "Start the processes of this LSF job with mpirun, or with tfdist.launch, or set TF_CONFIG in each."),
    ("PBS_", "PBS has reserved several hosts: start one process for each worker with mpirun, or with tfdist.launch."),
    ("LWS_", _by_numbers("$LWS_WORKER_INDEX", "$LWS_GROUP_SIZE", "$LWS_LEADER_ADDRESS")),
    ("PET_", _by_numbers("$PET_NODE_RANK", "$PET_NNODES", "$PET_MASTER_ADDR")),
    ("JAX_", _by_numbers("$JAX_PROCESS_ID", "$JAX_NUM_PROCESSES", "HOST")),
    ("JOB_", "Set TFDIST_WORKERS to the names of all pods, as in 'train-{0..3}.train:2222', or set TF_CONFIG."),
    ("PMI", _by_numbers("$PMIX_RANK (or $PMI_RANK)", "N", "HOST")),
    ("VC_", "Use Volcano's plug-ins svc and env with one task named worker, or its plug-in tensorflow."),
    ("SKYPILOT_", "Let SkyPilot pass on SKYPILOT_NODE_IPS and SKYPILOT_NODE_RANK, or set TF_CONFIG in each process."),
)
