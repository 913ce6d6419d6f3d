"""Vertex AI: CLUSTER_SPEC, in which the pools of workers stand for the jobs of TF_CONFIG."""

from collections.abc import Mapping

from tfdist.cluster.addresses import ClusterError, show
from tfdist.cluster.environments import tf_config
from tfdist.cluster.environments.strict_json import parse
from tfdist.cluster.members import Cluster

_SOURCE = "CLUSTER_SPEC"
_JOBS = {"workerpool0": "chief", "workerpool1": "worker", "workerpool2": "ps", "workerpool3": "evaluator"}


def detect(environ: Mapping[str, str]) -> str | None:
    """Returns CLUSTER_SPEC where it is set."""
    return _SOURCE if environ.get(_SOURCE, "").strip() else None


def read(environ: Mapping[str, str]) -> Cluster | None:
    """Reads the cluster; None where pool 0 is alone.

    Raises:
        ClusterError: the text is wrong, or this process has no part in synchronous training.
    """
    config = parse(environ[_SOURCE], _SOURCE)
    jobs = config.get("cluster") if isinstance(config, dict) else None
    if not isinstance(jobs, dict) or not jobs:
        raise ClusterError(
            f'{_SOURCE}: its "cluster" is {show(jobs)}. Write {{"cluster": {{"workerpool0": ["host:port"]}}, "task": '
            '{"type": "workerpool0", "index": 0}}, or set TF_CONFIG, which wins.'
        )
    task = config.get("task")
    if isinstance(task, dict):
        kind = task.get("type")
        task = task | {"type": _JOBS.get(kind, kind) if isinstance(kind, str) else kind}
    named = {_JOBS.get(job, job): addresses for job, addresses in jobs.items()}
    if len(named) < len(jobs):
        raise ClusterError(f"{_SOURCE}: two of its pools have the same part in training. Name each pool once.")
    cluster = tf_config.make_cluster({"cluster": named, "task": task}, _SOURCE)
    return cluster if cluster and cluster.size > 1 else None
