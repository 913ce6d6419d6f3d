"""The processes that train together, and which of them this process is."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfdist.cluster.addresses import ClusterError, show, split_address
from tfdist.cluster.gpus import visible

_TRAINING_JOBS = ("chief", "worker")  # the order in which TensorFlow numbers the workers


@dataclass(frozen=True)
class Task:
    """One process of a cluster: its job ("chief" or "worker") and its index within that job."""

    type: str
    index: int


@dataclass(frozen=True)
class Cluster:
    """The processes that train together, and the task of this process; checked when made.

    Args:
      jobs: job name -> its addresses "host:port"; an "evaluator" may be listed and is left alone.
      task: the task of this process.
      source: where the cluster was read; it is the first word of every message about it.
      gpus: this task's share of its host's GPUs; None where it may use all visible ones.

    Raises:
      ClusterError: the jobs or the task are wrong.

    Example:
      ```python
      import json, tfdist

      jobs = {"worker": ["a:2222", "b:2222"]}
      config = json.dumps({"cluster": jobs, "task": {"type": "worker", "index": 1}})
      cluster = tfdist.read_cluster({"TF_CONFIG": config})
      assert (cluster.size, cluster.rank, cluster.is_chief) == (2, 1, False)
      ```
    """

    jobs: Mapping[str, tuple[str, ...]]
    task: Task
    source: str = "TF_CONFIG"
    gpus: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_jobs(self.jobs, self.source)
        _check_task(self.task, self.jobs, self.source)
        object.__setattr__(self, "jobs", {job: tuple(addresses) for job, addresses in self.jobs.items()})

    @property
    def workers(self) -> tuple[str, ...]:
        """The addresses of all training workers by rank: the chief, then the other workers."""
        return tuple(address for job in _TRAINING_JOBS for address in self.jobs.get(job, ()))

    @property
    def size(self) -> int:
        """The number of training workers."""
        return len(self.workers)

    @property
    def rank(self) -> int:
        """The position of this task in `workers`."""
        return self.workers.index(self.address)

    @property
    def is_chief(self) -> bool:
        """Whether this task is the chief, or worker 0 where no chief is listed."""
        return self.rank == 0

    @property
    def address(self) -> str:
        """The address of this task, "host:port"."""
        return self.jobs[self.task.type][self.task.index]

    def to_tf_config(self) -> str:
        """Returns the JSON that TensorFlow reads from TF_CONFIG."""
        return json.dumps({"cluster": self.jobs, "task": {"type": self.task.type, "index": self.task.index}})

    def environment(self) -> dict[str, str]:
        """Returns the variables that the caller has to set before TensorFlow starts."""
        return {"TF_CONFIG": self.to_tf_config(), **self.gpu_environment()}

    def gpu_environment(self) -> dict[str, str]:
        """Returns the variable that keeps this task to its share of the GPUs; none where it may use all."""
        return {} if self.gpus is None else visible(self.gpus)


def check_jobs(jobs: Any, source: str) -> None:
    """Refuses jobs that are no cluster of training workers.

    Raises:
      ClusterError: the message begins with `source`, and names the job or the address.
    """
    if not isinstance(jobs, Mapping):
        raise ClusterError(f'{source}: cluster is {show(jobs)}, not an object. Write {{"worker": ["host:port", ...]}}.')
    owners: dict[tuple[str, int], str] = {}
    for job, addresses in jobs.items():
        _check_job(job, addresses, source)
        for index, address in enumerate(addresses):
            place = f"cluster.{job}[{index}]"
            host, port = split_address(address, f"{source}: {place}")
            first = owners.setdefault((host.lower(), port), place)
            if first != place:
                raise ClusterError(
                    f"{source}: {first} and {place} are both {show(address)}. Give each task an address of its own."
                )
    if not any(job in jobs for job in _TRAINING_JOBS):
        raise ClusterError(
            f"{source}: cluster lists no worker, only {' and '.join(jobs) or 'nothing'}. "
            'Add "worker": ["host:port", ...].'
        )


def _check_job(job: Any, addresses: Any, source: str) -> None:
    if job == "ps":
        raise ClusterError(
            f"{source}: cluster lists parameter servers (ps), but tfdist trains synchronously, "
            "without them. Remove cluster.ps and start only workers."
        )
    if job not in (*_TRAINING_JOBS, "evaluator"):
        raise ClusterError(
            f'{source}: cluster lists the unknown job {show(job)}. Use "worker", and "chief" if one is wanted.'
        )
    if not isinstance(addresses, list | tuple):
        raise ClusterError(
            f'{source}: cluster.{job} is {show(addresses)}, not a list. Write ["host:port", ...], even for one address.'
        )
    if not addresses:
        raise ClusterError(f"{source}: cluster.{job} is an empty list. Add its addresses, or remove cluster.{job}.")
    if job != "worker" and len(addresses) > 1:
        raise ClusterError(
            f"{source}: cluster.{job} lists {len(addresses)} addresses. Keep one; others can be workers."
        )


def _check_task(task: Task, jobs: Mapping[str, Sequence[str]], source: str) -> None:
    listed = " and ".join(f'"{job}"' for job in _TRAINING_JOBS if job in jobs)
    if task.type is None:
        raise ClusterError(f"{source}: task.type is missing. Use {listed}.")
    if task.type == "evaluator":
        raise ClusterError(
            f'{source}: task.type is "evaluator", which has no part in synchronous training. '
            "Start only the training workers here, and evaluate in a process without TF_CONFIG."
        )
    if task.type not in _TRAINING_JOBS or task.type not in jobs:
        raise ClusterError(
            f"{source}: task.type is {show(task.type)}, but cluster lists {listed}. "
            "Use a listed job, or add this task's address to cluster."
        )
    count = len(jobs[task.type])
    valid = f"0..{count - 1}" if count > 1 else "0"
    if task.index is None:
        raise ClusterError(f"{source}: task.index is missing. Use {valid}.")
    if type(task.index) is not int:  # True is an int in Python.
        raise ClusterError(f"{source}: task.index is {show(task.index)}, not an integer. Use {valid}.")
    if not 0 <= task.index < count:
        raise ClusterError(
            f"{source}: task.index is {task.index}, but cluster.{task.type} lists "
            f"{count} address{'es' * (count > 1)}. Use {valid}, or add the missing {task.type}."
        )
