"""Azure Batch: the addresses of the nodes of a multi-instance task."""

import ipaddress
import re
from collections.abc import Mapping

from tfdist.cluster.addresses import ClusterError, is_own, show
from tfdist.cluster.environments.listed import make_cluster
from tfdist.cluster.members import Cluster

_LISTS = ("AZ_BATCH_HOST_LIST", "AZ_BATCH_NODE_LIST")


def detect(environ: Mapping[str, str]) -> str | None:
    """Returns the variable with the list of nodes; None without one."""
    return next((name for name in _LISTS if environ.get(name, "").strip()), None)


def read(environ: Mapping[str, str]) -> Cluster | None:
    """Reads the cluster of one worker on each node; None for a single node.

    Raises:
        ClusterError: the list is malformed, or this machine is not on it.
    """
    source = detect(environ) or _LISTS[0]
    hosts = re.split("[,;]", environ[source].strip())
    if len(hosts) == 1:
        return None
    for host in hosts:
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise ClusterError(
                f'{source}: {show(host)} is no IP address. Write them with commas between, as in "10.0.0.4,10.0.0.5".'
            ) from None
    rank = next((rank for rank, host in enumerate(hosts) if is_own([host])), None)
    if rank is None:
        raise ClusterError(
            f"{source}: none of its {len(hosts)} addresses is of this machine. Start one process on each node, or set "
            "TF_CONFIG."
        )
    return make_cluster(environ, source, hosts=hosts, rank=rank, job=environ.get("AZ_BATCH_JOB_ID", ""))
