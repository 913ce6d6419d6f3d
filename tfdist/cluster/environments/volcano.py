"""Volcano: the host names of a job's pods, by the plug-ins `svc` and `env`."""

import re
from collections.abc import Mapping

from tfdist.cluster.addresses import ClusterError
from tfdist.cluster.environments.listed import make_cluster
from tfdist.cluster.members import Cluster

_SOURCE = "VC_WORKER_HOSTS"


def detect(environ: Mapping[str, str]) -> str | None:
    """Returns VC_WORKER_HOSTS where it is set."""
    return _SOURCE if environ.get(_SOURCE, "").strip() else None


def read(environ: Mapping[str, str]) -> Cluster | None:
    """Reads the cluster of a job whose only task is named worker; None for a single pod.

    Raises:
        ClusterError: a variable is missing or wrong, or the job has other tasks too, whose pods are numbered apart.
    """
    others = [name for name in environ if re.fullmatch("VC_.+_HOSTS", name) and name != _SOURCE]
    if others:
        raise ClusterError(
            f"{_SOURCE}: the job has another task too, in {min(others)!a}, and the pods of each task are numbered "
            "from 0. Use Volcano's plug-in tensorflow, which sets TF_CONFIG, or one task named worker."
        )
    hosts = environ[_SOURCE].strip().split(",")
    return make_cluster(environ, _SOURCE, hosts=hosts, rank=environ.get("VC_TASK_INDEX"), job="")
