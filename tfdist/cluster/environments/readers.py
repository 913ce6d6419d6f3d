"""All environments that tfdist reads, in their order, and what they say about the process."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from tfdist.cluster.addresses import ClusterError
from tfdist.cluster.environments import (
    azure_batch,
    hydra,
    open_mpi,
    pattern,
    refused,
    sagemaker,
    skypilot,
    slurm,
    tf_config,
    torchrun,
    vertex,
    volcano,
)
from tfdist.cluster.group import LOOPBACK, ProcessGroup
from tfdist.cluster.members import Cluster


class EnvironmentReader(Protocol):
    """One environment: a module with these two functions."""

    def detect(self, environ: Mapping[str, str], /) -> str | None:
        """Returns the variable, or the file, by which the environment is recognized; None elsewhere."""
        ...

    def read(self, environ: Mapping[str, str], /) -> Cluster | ProcessGroup | None:
        """Reads the cluster or the group; None where this process is the only one."""
        ...


class Found(NamedTuple):
    """What the environment says.

    Attributes:
        variable: the variable, or the file, that was read; None where there is nothing to read.
        members: the processes that train together; None where this one is alone.
    """

    variable: str | None
    members: Cluster | ProcessGroup | None


# What a user sets comes first. A launcher comes before the scheduler within which it runs, whose variables describe the
# launcher's own processes; the lists of hosts come last, because one process on each host is only a guess.
READERS: tuple[EnvironmentReader, ...] = (
    *(tf_config, pattern),
    *(open_mpi, torchrun, hydra),
    slurm,
    *(vertex, sagemaker, azure_batch, skypilot, volcano),
    refused,
)
# Where one of these is set, "no cluster" is meant.
_DECISIVE = (tf_config, pattern)


def find(environ: Mapping[str, str]) -> Found:
    """Finds the first environment that describes several processes.

    Raises:
        ClusterError: the environment describes several processes, and something in it is wrong or missing.
    """
    for reader in READERS:
        variable = reader.detect(environ)
        members = reader.read(environ) if variable else None
        if members or (variable and reader in _DECISIVE):
            return Found(variable, members)
    slurm.warn_of_allocation(environ)
    return Found(None, None)


def read_cluster(environ: Mapping[str, str]) -> Cluster | None:
    """Reads the cluster from TF_CONFIG, or else from the scheduler or launcher that has started this process.

    Args:
        environ: the environment variables. Files that they name are read too; nothing is changed.

    Returns:
        The cluster, or None where there is none. TF_CONFIG='{}' means "none" even where a launcher tells of several.

    Raises:
        ClusterError: the environment describes several processes, and something in it is wrong or missing; or a
            launcher has numbered processes on several hosts, which have to exchange their addresses first.

    Example:
        ```python
        import os, tfdist

        cluster = tfdist.read_cluster(os.environ)
        print(f"worker {cluster.rank} of {cluster.size}" if cluster else "no cluster: this process trains alone")
        ```
    """
    return cluster_of(find(environ).members, environ)


def cluster_of(members: Cluster | ProcessGroup | None, environ: Mapping[str, str]) -> Cluster | None:
    """Returns the cluster of what `find` has found; raises as `read_cluster` does."""
    if not isinstance(members, ProcessGroup):
        return members
    if members.is_local:
        return members.make_cluster([LOOPBACK] * members.size, environ)
    raise ClusterError(
        f"{members.source}: {members.size} processes are started on several hosts, whose addresses are not known yet. "
        "Call tfdist.choose_strategy() first, in which the processes exchange them."
    )
