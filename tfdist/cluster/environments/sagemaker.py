"""SageMaker: the file that the service writes into each container, or the variables of its training toolkit."""

import os
from collections.abc import Mapping

from tfdist.cluster.addresses import ClusterError, show
from tfdist.cluster.environments.listed import make_cluster
from tfdist.cluster.environments.strict_json import parse
from tfdist.cluster.environments.tf_config import read_file
from tfdist.cluster.members import Cluster

RESOURCES = "/opt/ml/input/config/resourceconfig.json"


def detect(environ: Mapping[str, str]) -> str | None:
    """Returns SM_HOSTS where it is set, or else the service's file where it exists."""
    if environ.get("SM_HOSTS"):
        return "SM_HOSTS"
    return RESOURCES if os.path.isfile(RESOURCES) else None


def read(environ: Mapping[str, str]) -> Cluster | None:
    """Reads the cluster of one worker on each host, which are in alphabetic order; None for a single host.

    Raises:
        ClusterError: a variable or the file is wrong.
    """
    if environ.get("SM_HOSTS"):
        source, hosts, own = "SM_HOSTS", parse(environ["SM_HOSTS"], "SM_HOSTS"), environ.get("SM_CURRENT_HOST")
    else:
        source = f"SageMaker's {RESOURCES}"
        config = parse(read_file(RESOURCES, source), source)
        hosts, own = (config.get("hosts"), config.get("current_host")) if isinstance(config, dict) else (None, None)
    if not isinstance(hosts, list) or not hosts or not all(isinstance(host, str) for host in hosts):
        raise ClusterError(f'{source}: the hosts are {show(hosts)}. Write a list of names, ["algo-1", "algo-2"].')
    hosts = sorted(hosts)
    if len(hosts) > 1 and own not in hosts:
        raise ClusterError(
            f"{source}: this host is {show(own)}, which is not one of its {len(hosts)} hosts. Set SM_CURRENT_HOST to "
            "the name of this one, or set TF_CONFIG."
        )
    rank = hosts.index(own) if own in hosts else None
    return make_cluster(environ, source, hosts=hosts, rank=rank, job="")
