"""The variables of torchrun, which Azure ML's `pytorch` and PyTorchJob set too: rank, size, the host of process 0."""

from collections.abc import Mapping

from tfdist.cluster.environments.slurm import in_step
from tfdist.cluster.group import ProcessGroup, read_group


def detect(environ: Mapping[str, str]) -> str | None:
    """Returns the variable with the number of processes; None where it is not set."""
    # Scripts for Slurm export these variables to all tasks of a step; only torchrun itself numbers processes within.
    if in_step(environ) and not environ.get("TORCHELASTIC_RUN_ID"):
        return None
    return "WORLD_SIZE" if environ.get("WORLD_SIZE") else None


def read(environ: Mapping[str, str]) -> ProcessGroup | None:
    """Reads the group. Torchrun itself may listen on MASTER_PORT, so the processes exchange addresses elsewhere.

    Raises:
        ClusterError: a variable is missing or wrong, or nothing tells where process 0 is.
    """
    return read_group(
        environ,
        "torchrun",
        rank="RANK",
        size="WORLD_SIZE",
        host_size="LOCAL_WORLD_SIZE",
        job=f"{environ.get('MASTER_ADDR')}:{environ.get('MASTER_PORT')}",
        coordinator=environ.get("MASTER_ADDR"),
    )
