"""Open MPI 4 (ORTE) and 5 (PRRTE): `mpirun` tells rank and size; version 4 also tells where it runs itself."""

import re
from collections.abc import Mapping

from tfdist.cluster.environments.slurm import in_step
from tfdist.cluster.group import ProcessGroup, read_group

_LAUNCHER = "OMPI_MCA_orte_hnp_uri"


def detect(environ: Mapping[str, str]) -> str | None:
    """Returns the variable with the number of processes; None where mpirun has not started this process."""
    # With `srun --mpi=pmix`, the step says more.
    if in_step(environ) and not environ.get(_LAUNCHER) and not environ.get("PRTE_LAUNCHED"):
        return None
    return "OMPI_COMM_WORLD_SIZE" if environ.get("OMPI_COMM_WORLD_SIZE") else None


def read(environ: Mapping[str, str]) -> ProcessGroup | None:
    """Reads the group; on several hosts, process 0 is taken to be on the host of mpirun.

    Raises:
        ClusterError: a variable is missing or wrong, or nothing tells where process 0 is.
    """
    return read_group(
        environ,
        "Open MPI",
        rank="OMPI_COMM_WORLD_RANK",
        size="OMPI_COMM_WORLD_SIZE",
        host_size="OMPI_COMM_WORLD_LOCAL_SIZE",
        job=environ.get("PMIX_NAMESPACE") or environ.get(_LAUNCHER, ""),
        coordinator=_read_launcher(environ.get(_LAUNCHER, "")),
    )


def _read_launcher(uri: str) -> str | None:
    """Returns the first address of a URI such as "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911"."""
    found = re.search(r"tcp6?://\[?([0-9A-Za-z.:%_-]+?)\]?(,|:[0-9]+(;|$))", uri)
    return found[1] if found else None
