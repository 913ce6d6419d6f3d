"""TF_CONFIG: JSON with the addresses of all workers and this process' place, in the variable or in a file."""

import json
import re
from collections.abc import Mapping
from typing import Any

from tfdist.cluster.addresses import ClusterError, show
from tfdist.cluster.environments.strict_json import parse
from tfdist.cluster.members import Cluster, Task, check_jobs

# The kernel takes a variable of up to 128 KiB, which is about 6,000 workers; a file has no such limit.
VARIABLES = ("TF_CONFIG", "TF_CONFIG_FILE")


def detect(environ: Mapping[str, str]) -> str | None:
    """Returns the variable that is set, TF_CONFIG before TF_CONFIG_FILE; None without either."""
    return next((name for name in VARIABLES if environ.get(name, "").strip()), None)


def read(environ: Mapping[str, str]) -> Cluster | None:
    """Reads the cluster; None where TF_CONFIG says that there is none, as '{}' does.

    Raises:
        ClusterError: the file cannot be read, or its text is wrong.
    """
    text = environ.get("TF_CONFIG", "").strip()
    if text and not text.startswith("@"):
        return make_cluster(parse(text, "TF_CONFIG"), "TF_CONFIG")
    path = text[1:] or environ.get("TF_CONFIG_FILE", "").strip()
    source = f"TF_CONFIG in {json.dumps(path)}"
    return make_cluster(parse(read_file(path, source), source), source)


def read_file(path: str, source: str) -> str:
    """Returns the text of a file.

    Raises:
        ClusterError: it cannot be read; the message begins with `source`.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise ClusterError(f"{source}: the file cannot be read ({reason}). Give the path of a file.") from None


def make_cluster(config: Any, source: str) -> Cluster | None:
    """Makes the cluster of a parsed TF_CONFIG; keys that platforms add are ignored.

    Raises:
        ClusterError: something in it is wrong; the message begins with `source`.
    """
    if not isinstance(config, dict):
        raise ClusterError(
            f"{source}: it is {show(config)}, not an object. "
            'Write {"cluster": {"worker": ["host:port"]}, "task": {"type": "worker", "index": 0}}.'
        )
    if config.get("rpc_layer") not in (None, "grpc"):
        raise ClusterError(f"{source}: rpc_layer is {show(config['rpc_layer'])}, but workers use grpc. Leave it out.")
    jobs, task = config.get("cluster"), config.get("task")
    if jobs in (None, {}):  # TensorFlow too takes an empty cluster for a single process.
        if task not in (None, {}):
            raise ClusterError(
                f"{source}: it names a task, but no cluster. "
                'Add "cluster": {"worker": ["host:port", ...]}, or unset TF_CONFIG to train alone.'
            )
        return None
    jobs = _name_jobs(jobs, source)
    # The jobs first, because the messages about the task name them.
    check_jobs(jobs, source)
    return Cluster(jobs, _make_task(task, source), source)


def _name_jobs(jobs: Any, source: str) -> Any:
    """Returns the jobs by the names of today: a master is the chief, and an empty list of parameter servers is none."""
    if not isinstance(jobs, dict):
        return jobs
    if isinstance(jobs.get("worker"), dict):
        raise ClusterError(
            f"{source}: cluster.worker is an object, not a list: a sparse cluster, in which a worker sees itself alone "
            "and the number of workers is unknown (a TFJob with enableDynamicWorker). Set enableDynamicWorker: false, "
            'or write the addresses of all workers as a list, ["host:port", ...].'
        )
    if "master" in jobs and "chief" in jobs:
        raise ClusterError(f"{source}: cluster lists a chief and a master, which is the same. Keep the chief.")
    named = {"chief" if job == "master" else job: addresses for job, addresses in jobs.items()}
    return {job: addresses for job, addresses in named.items() if (job, addresses) != ("ps", [])}


def _make_task(task: Any, source: str) -> Task:
    if task in (None, {}):
        raise ClusterError(
            f"{source}: task is missing, so this process does not know which address is its own. "
            'Add "task": {"type": "worker", "index": 0}, with an index of its own in each process.'
        )
    if not isinstance(task, dict):
        raise ClusterError(f'{source}: task is {show(task)}, not an object. Write {{"type": "worker", "index": 0}}.')
    kind, index = task.get("type"), task.get("index")
    # TensorFlow calls int() on the index, and some platforms do write "0".
    if isinstance(index, str) and re.fullmatch("[0-9]{1,9}", index):
        index = int(index)
    return Task("chief" if kind == "master" else kind, index)  # type: ignore[arg-type]  # Cluster checks both.
