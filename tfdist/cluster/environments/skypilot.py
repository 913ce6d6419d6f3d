"""SkyPilot: the addresses of all nodes, and the rank of this one."""

from collections.abc import Mapping

from tfdist.cluster.environments.listed import make_cluster
from tfdist.cluster.members import Cluster

_SOURCE = "SKYPILOT_NODE_IPS"


def detect(environ: Mapping[str, str]) -> str | None:
    """Returns SKYPILOT_NODE_IPS where it is set."""
    return _SOURCE if environ.get(_SOURCE, "").strip() else None


def read(environ: Mapping[str, str]) -> Cluster | None:
    """Reads the cluster of one worker on each node; None for a single node.

    Raises:
        ClusterError: a variable is missing or wrong.
    """
    hosts, rank = environ[_SOURCE].split(), environ.get("SKYPILOT_NODE_RANK")
    return make_cluster(environ, _SOURCE, hosts=hosts, rank=rank, job=environ.get("SKYPILOT_TASK_ID", ""))
