"""MPICH and Intel MPI: the Hydra `mpiexec` tells rank and size, and no address."""

from collections.abc import Mapping

from tfdist.cluster.environments.slurm import in_step
from tfdist.cluster.group import ProcessGroup, read_group


def detect(environ: Mapping[str, str]) -> str | None:
    """Returns the variable with the number of processes; None where Hydra has not started this process."""
    # With `srun --mpi=pmi2`, the step says more.
    if in_step(environ) and not environ.get("MPI_LOCALNRANKS"):
        return None
    return "PMI_SIZE" if environ.get("PMI_SIZE") else None


def read(environ: Mapping[str, str]) -> ProcessGroup | None:
    """Reads the group; on several hosts of Azure Batch, process 0 is taken to be on the master node.

    Raises:
        ClusterError: a variable is missing or wrong, or nothing tells where process 0 is.
    """
    return read_group(
        environ,
        "MPI (Hydra)",
        rank="PMI_RANK",
        size="PMI_SIZE",
        host_size="MPI_LOCALNRANKS",
        job="",  # Hydra sets nothing of the kind.
        coordinator=environ.get("AZ_BATCH_MASTER_NODE", "").rpartition(":")[0],
    )
