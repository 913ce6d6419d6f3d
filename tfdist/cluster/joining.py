"""From the environment to the cluster, with the other processes' help where the environment alone is not enough."""

from collections.abc import MutableMapping

from tfdist.cluster.environments.readers import cluster_of, find
from tfdist.cluster.group import ProcessGroup
from tfdist.cluster.members import Cluster
from tfdist.cluster.rendezvous.exchange import exchange_addresses


def join_cluster(environ: MutableMapping[str, str], *, timeout_seconds: float) -> Cluster | None:
    """Reads the cluster as `read_cluster` does; processes of a launcher on several hosts exchange their addresses.

    Args:
        environ: the environment variables.
        timeout_seconds: how long to wait for the other processes.

    Returns:
        The cluster, or None where there is none.

    Raises:
        ClusterError: the environment describes several processes, and something in it is wrong or missing.
        RendezvousError: another process is absent, or a port is in use.
    """
    members = find(environ).members
    if isinstance(members, ProcessGroup) and not members.is_local:
        return exchange_addresses(members, timeout_seconds=timeout_seconds, environ=environ)
    return cluster_of(members, environ)
