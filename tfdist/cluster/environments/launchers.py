"""Launchers that start several processes and describe no cluster: the variables by which they are recognized."""

import json
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple


class Sign(NamedTuple):
    """A variable that tells of several processes.

    Attributes:
        name, value: the variable.
        processes: how many processes it tells of; None where it has only the number of this one.
    """

    name: str
    value: str
    processes: int | None


def find_sign(environ: Mapping[str, str]) -> Sign | None:
    """Returns the first variable of a launcher's that tells of several processes; None for one process, or no launcher.

    Args:
        environ: the environment variables.
    """
    counts = [
        Sign(name, environ[name], count)
        for name, read in _COUNTS
        if environ.get(name) and (count := read(environ[name])) is not None
    ]
    for sign in counts:
        if sign.processes and sign.processes > 1:
            return sign
    for name in _INDICES:
        # Number 0 may be the only process, and another variable may say so.
        if environ.get(name, "").isdecimal() and (int(environ[name]) > 0 or not counts):
            return Sign(name, environ[name], None)
    return None


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch("[0-9]{1,9}", text.strip()) else None


def _items(text: str) -> int | None:
    """Counts the items of a list with commas, semicolons or line breaks."""
    return len([item for item in re.split(r"[,;\s]+", text) if item]) or None


def _json_items(text: str) -> int | None:
    value = _parse(text)
    return len(value) if isinstance(value, list) else None


def _cluster_spec(text: str) -> int | None:
    """Counts the addresses of the first two pools, or of chief and workers; the others take no part in training."""
    value = _parse(text)
    jobs = value.get("cluster", value) if isinstance(value, dict) else {}
    names = ("workerpool0", "workerpool1", "chief", "master", "worker")
    lists = [jobs[name] for name in names if isinstance(jobs, dict) and isinstance(jobs.get(name), list | dict)]
    return sum(map(len, lists)) or None


def _parse(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


_COUNTS: tuple[tuple[str, Callable[[str], int | None]], ...] = (
    ("OMPI_COMM_WORLD_SIZE", _number),
    ("PMI_SIZE", _number),
    ("PMIX_SIZE", _number),
    ("MV2_COMM_WORLD_SIZE", _number),
    ("MPI_LOCALNRANKS", _number),
    ("JSM_NAMESPACE_SIZE", _number),
    ("WORLD_SIZE", _number),
    ("PET_NNODES", _number),
    ("JAX_NUM_PROCESSES", _number),
    ("LWS_GROUP_SIZE", _number),
    ("SM_HOSTS", _json_items),
    ("CLUSTER_SPEC", _cluster_spec),
    ("SKYPILOT_NUM_NODES", _number),
    ("SKYPILOT_NODE_IPS", _items),
    ("VC_WORKER_NUM", _number),
    ("VC_WORKER_HOSTS", _items),
    ("AZ_BATCH_HOST_LIST", _items),
    ("AZ_BATCH_NODE_LIST", _items),
    ("SLURM_STEP_NUM_TASKS", _number),
)
_INDICES = (
    "JOB_COMPLETION_INDEX",
    "PMIX_RANK",
    "PMI_RANK",
    "OMPI_COMM_WORLD_RANK",
    "LWS_WORKER_INDEX",
    "VC_TASK_INDEX",
)
