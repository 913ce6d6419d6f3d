"""The cluster a process belongs to, read from its environment and written as TF_CONFIG."""

import ipaddress
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfdist.cluster.environments.slurm import SlurmError, read_step
from tfdist.cluster.gpus import divide_gpus, visible
from tfdist.process.errors import TfdistError, UsageError

_TRAINING_JOBS = ("chief", "worker")  # the order in which TensorFlow numbers the workers
_HOST = re.compile(r"[A-Za-z0-9._-]+")
_PORT = re.compile(r"[0-9]{1,5}")


class ClusterError(TfdistError, ValueError):
    """The environment describes a cluster that cannot train."""


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
        _check_jobs(self.jobs, self.source)
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


def read_cluster(environ: Mapping[str, str]) -> Cluster | None:
    """Reads the cluster from TF_CONFIG, or else from the Slurm step this process runs in.

    Args:
      environ: the environment variables; nothing else is read, and nothing is changed.

    Returns:
      The cluster, or None where there is none. TF_CONFIG='{}' means "none" even inside a Slurm step.

    Raises:
      ClusterError: the environment describes a cluster, and something in it is wrong.

    Example:
      ```python
      import os, tfdist

      cluster = tfdist.read_cluster(os.environ)
      print(f"worker {cluster.rank} of {cluster.size}" if cluster else "no cluster: this process trains alone")
      ```
    """
    for variable, read in _READERS:
        if environ.get(variable, "").strip():
            return read(environ)
    return None


def split_address(address: object, where: str = "address") -> tuple[str, int]:
    """Splits "host:port" or "[IPv6]:port" into the host, without brackets, and the port.

    Raises:
      ClusterError: the address is malformed; the message begins with `where`.
    """
    if not isinstance(address, str):
        raise ClusterError(f'{where} is {_show(address)}. Write a string "host:port".')
    what = f"{where} is {_show(address)}"
    if "://" in address:
        raise ClusterError(f'{what}. Leave the scheme out: TensorFlow takes only "host:port".')
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        raise ClusterError(f'{what}, which has no port. Write "host:port".')
    if not host:
        raise ClusterError(f'{what}, which has no host. Write "host:port".')
    host = _check_host(host, what)
    if not _PORT.fullmatch(port) or not 0 < int(port) < 65536:
        raise ClusterError(f"{what}, whose port is {_show(port)}. Use a number in 1..65535.")
    return host, int(port)


def divide_cores(cores: Sequence[int], tasks: int) -> tuple[tuple[int, ...], ...] | None:
    """Divides the cores of one host evenly and in order among its tasks; a remainder is left out.

    Synchronous tasks that share cores wait for one another: on two cores, two workers of a small model were 1.4 to 1.7
    times as fast with one core each.

    Args:
      cores: the numbers of the cores.
      tasks: the number of tasks on the host.

    Returns:
      Each task's cores; None where there are fewer cores than tasks.
    """
    share = len(cores) // tasks
    return tuple(tuple(cores[index * share : (index + 1) * share]) for index in range(tasks)) if share else None


def hosts_of(addresses: Iterable[str]) -> frozenset[str]:
    """Returns the hosts of addresses "host:port"."""
    return frozenset(address.rpartition(":")[0] for address in addresses)


def processors() -> int:
    """Counts the processors that this process may use, which is TensorFlow's default number of threads."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def core_shares(tasks: int) -> tuple[tuple[int, ...], ...] | None:
    """Returns the cores that this process may use, divided among `tasks` tasks; None where each task uses all."""
    if tasks == 1 or not hasattr(os, "sched_getaffinity"):
        return None
    return divide_cores(sorted(os.sched_getaffinity(0)), tasks)


def _read_tf_config(environ: Mapping[str, str]) -> Cluster | None:
    config = _parse(environ["TF_CONFIG"])
    if not isinstance(config, dict):
        raise ClusterError(
            f"TF_CONFIG: it is {_show(config)}, not an object. "
            'Write {"cluster": {"worker": ["host:port"]}, "task": {"type": "worker", "index": 0}}.'
        )
    if config.get("rpc_layer") not in (None, "grpc"):
        raise ClusterError(f"TF_CONFIG: rpc_layer is {_show(config['rpc_layer'])}, but workers use grpc. Leave it out.")
    jobs, task = config.get("cluster"), config.get("task")
    if jobs in (None, {}):  # TensorFlow too takes an empty cluster for a single process.
        if task not in (None, {}):
            raise ClusterError(
                "TF_CONFIG: it names a task, but no cluster. "
                'Add "cluster": {"worker": ["host:port", ...]}, or unset TF_CONFIG to train alone.'
            )
        return None
    # The jobs first, because the messages about the task name them.
    _check_jobs(jobs, "TF_CONFIG")
    return Cluster(jobs, _make_task(task))


def _read_slurm(environ: Mapping[str, str]) -> Cluster | None:
    try:
        step = read_step(environ)
        if step is None:
            return None
        gpus = divide_gpus(step.shared_gpus, step.host_tasks, step.host_index) if step.shared_gpus else None
    except (SlurmError, UsageError) as error:
        raise ClusterError(str(error)) from None
    return Cluster({"worker": step.addresses}, Task("worker", step.rank), "Slurm", gpus)


# The first variable that is set decides, even where its reader finds no cluster.
_READERS: tuple[tuple[str, Callable[[Mapping[str, str]], Cluster | None]], ...] = (
    ("TF_CONFIG", _read_tf_config),
    ("SLURM_JOB_ID", _read_slurm),
)


def _parse(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_make_object, parse_int=_make_int, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        near = _show(text[max(0, error.pos - 15) : error.pos + 15])
        raise ClusterError(
            f"TF_CONFIG: not JSON at line {error.lineno}, column {error.colno}, near {near}: "
            f"{error.msg}. In a shell, put single quotes around the whole value."
        ) from None
    except RecursionError:
        raise ClusterError(
            'TF_CONFIG: its lists or objects are nested too deeply. Only "cluster" and "task" are needed.'
        ) from None


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ClusterError(f"TF_CONFIG: the key {_show(twice)} appears twice. Keep one of them.")
    return result


def _make_int(digits: str) -> int:
    # Python itself refuses to convert very long numbers, with a message about security.
    if len(digits) > 20:
        raise ClusterError(f"TF_CONFIG: the number {digits[:20]}... is too long. Shorten it.")
    return int(digits)


def _refuse_constant(name: str) -> Any:
    raise ClusterError(f"TF_CONFIG: {name} is not JSON. Write a number, or null.")


def _make_task(task: Any) -> Task:
    if task in (None, {}):
        raise ClusterError(
            "TF_CONFIG: task is missing, so this process does not know which address is its own. "
            'Add "task": {"type": "worker", "index": 0}, with an index of its own in each process.'
        )
    if not isinstance(task, dict):
        raise ClusterError(f'TF_CONFIG: task is {_show(task)}, not an object. Write {{"type": "worker", "index": 0}}.')
    index = task.get("index")
    # TensorFlow calls int() on the index, and some platforms do write "0".
    if isinstance(index, str) and re.fullmatch("[0-9]{1,9}", index):
        index = int(index)
    return Task(task.get("type"), index)  # type: ignore[arg-type]  # Cluster checks both.


def _check_jobs(jobs: Any, source: str) -> None:
    if not isinstance(jobs, Mapping):
        raise ClusterError(
            f'{source}: cluster is {_show(jobs)}, not an object. Write {{"worker": ["host:port", ...]}}.'
        )
    owners: dict[tuple[str, int], str] = {}
    for job, addresses in jobs.items():
        _check_job(job, addresses, source)
        for index, address in enumerate(addresses):
            place = f"cluster.{job}[{index}]"
            host, port = split_address(address, f"{source}: {place}")
            first = owners.setdefault((host.lower(), port), place)
            if first != place:
                raise ClusterError(
                    f"{source}: {first} and {place} are both {_show(address)}. Give each task an address of its own."
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
            f'{source}: cluster lists the unknown job {_show(job)}. Use "worker", and "chief" if one is wanted.'
        )
    if not isinstance(addresses, list | tuple):
        raise ClusterError(
            f"{source}: cluster.{job} is {_show(addresses)}, not a list. "
            'Write ["host:port", ...], even for one address.'
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
            f"{source}: task.type is {_show(task.type)}, but cluster lists {listed}. "
            "Use a listed job, or add this task's address to cluster."
        )
    count = len(jobs[task.type])
    valid = f"0..{count - 1}" if count > 1 else "0"
    if task.index is None:
        raise ClusterError(f"{source}: task.index is missing. Use {valid}.")
    if type(task.index) is not int:  # True is an int in Python.
        raise ClusterError(f"{source}: task.index is {_show(task.index)}, not an integer. Use {valid}.")
    if not 0 <= task.index < count:
        raise ClusterError(
            f"{source}: task.index is {task.index}, but cluster.{task.type} lists "
            f"{_count(count, 'address')}. Use {valid}, or add the missing {task.type}."
        )


def _check_host(host: str, what: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        try:
            # The shortest, lower-case form, so that two spellings of one address are equal.
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise ClusterError(f'{what}, whose brackets hold no IPv6 address. Write it like "[::1]:2222".') from None
    if ":" in host:
        raise ClusterError(f'{what}, which has several colons. Put an IPv6 address in brackets: "[::1]:2222".')
    if not _HOST.fullmatch(host):
        raise ClusterError(
            f'{what}, whose host is {_show(host)}. Use only letters, digits, ".", "-" and "_" in a host.'
        )
    return host


def _show(value: object) -> str:
    """Returns a value as short ASCII JSON, which is safe to print."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str) and len(value) > 60:
        return json.dumps(value[:60]) + "..."
    return json.dumps(value, default=repr)


def _count(number: int, noun: str) -> str:
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{number} {noun if number == 1 else plural}"
