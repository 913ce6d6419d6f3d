"""Slurm steps, as `srun` describes them in the environment of each task."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tfdist.cluster.addresses import ClusterError, show
from tfdist.cluster.gpus import divide_gpus, parse_ids, read_visible
from tfdist.cluster.members import Cluster, Task
from tfdist.cluster.ports import first_port
from tfdist.process.errors import UsageError
from tfdist.process.log import warn

_MAX_TASKS = 65536  # No synchronous training has more; checked before a list is expanded.
_FIRST_SPECIAL_STEP = 0xFFFFFFF0  # Slurm numbers batch and interactive shells from here on.
_BINDINGS = ("SLURM_GPUS_PER_TASK", "SLURM_NTASKS_PER_GPU", "SLURM_GPU_BIND", "SLURM_TRES_BIND")

_HOST_PIECE = re.compile(r"(?P<name>[A-Za-z0-9._-]+)|\[(?P<ranges>[0-9,-]+)\]|(?P<comma>,)")
_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
_TASKS = re.compile(r"([0-9]{1,9})(?:\(x([0-9]{1,9})\))?")


@dataclass(frozen=True)
class SlurmStep:
    """The tasks of a step.

    Args:
      addresses: "host:port" of every task, by rank.
      rank: the rank of this task.
      host_tasks: the number of tasks on this task's host.
      host_index: the index of this task among them.
      shared_gpus: the ids of the GPUs that are visible to all these tasks, which have to divide them; empty
        where there are none, or where Slurm has given each task its own.
    """

    addresses: tuple[str, ...]
    rank: int
    host_tasks: int
    host_index: int
    shared_gpus: tuple[str, ...]


def detect(environ: Mapping[str, str]) -> str | None:
    """Returns SLURM_JOB_ID within a step; None elsewhere, also in an allocation that is used without srun."""
    return "SLURM_JOB_ID" if environ.get("SLURM_JOB_ID", "").strip() and in_step(environ) else None


def read(environ: Mapping[str, str]) -> Cluster | None:
    """Reads the cluster of a step, whose tasks divide the GPUs of their host; None for a step of one task.

    Raises:
        ClusterError: a variable is missing or wrong, or the GPUs cannot be divided.
    """
    step = read_step(environ)
    if environ.get("SLURM_HET_SIZE", "1") != "1" and environ.get("SLURM_PROCID") == "0":
        warn(
            f"Slurm: of the components of this heterogeneous job, {len(step.addresses) if step else 1} task(s) of one "
            "train. Start them on one component (srun --het-group=0), or set TF_CONFIG to train on several."
        )
    if step is None:
        return None
    try:
        gpus = divide_gpus(step.shared_gpus, step.host_tasks, step.host_index) if step.shared_gpus else None
    except UsageError as error:
        raise ClusterError(str(error)) from None
    return Cluster({"worker": step.addresses}, Task("worker", step.rank), "Slurm", gpus)


def read_step(environ: Mapping[str, str]) -> SlurmStep | None:
    """Reads the step of which this process is a task.

    Args:
      environ: the environment variables; TFDIST_PORT sets the port of each host's first task.

    Returns:
      The step, or None for a step of one task.

    Raises:
      ClusterError: a variable is missing, malformed, or contradicts another.
    """
    size = _read_int(environ, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")
    if size == 1:
        return None
    rank = _read_int(environ, "SLURM_PROCID")
    if rank >= size:
        raise ClusterError(
            f"Slurm: SLURM_PROCID is {rank}, but the step has {size} tasks. "
            f"{_advise(environ, 'Start the program with srun, without changing SLURM_ variables.')}"
        )
    hosts, counts = _read_hosts(environ, size)
    tasks = place_tasks(counts, _read_plane(environ))
    _check_place(environ, rank, *tasks[rank])
    node, index = tasks[rank]
    job = _read_int(environ, "SLURM_JOB_ID")
    number = _read_int(environ, "SLURM_STEP_ID" if environ.get("SLURM_STEP_ID") else "SLURM_STEPID")
    port = first_port(environ, 7 * job + number, max(counts))
    addresses = tuple(f"{hosts[node]}:{port + index}" for node, index in tasks)
    gpus = _read_shared_gpus(environ) if counts[node] > 1 else ()
    return SlurmStep(addresses, rank, counts[node], index, gpus)


def in_step(environ: Mapping[str, str]) -> bool:
    """Returns whether this process is a task of a step, or a descendant of one."""
    # Not SLURM_PROCID, because batch and interactive shells have it too.
    step = environ.get("SLURM_STEP_ID") or environ.get("SLURM_STEPID") or ""
    return bool(re.fullmatch("[0-9]{1,10}", step)) and int(step) < _FIRST_SPECIAL_STEP


def warn_of_allocation(environ: Mapping[str, str]) -> None:
    """Warns where a job has several tasks, but this process is not in a step, and so trains alone."""
    names = ("SLURM_NTASKS", "SLURM_NNODES", "SLURM_JOB_NUM_NODES")
    if not environ.get("SLURM_JOB_ID") or in_step(environ) or all(environ.get(name, "1") == "1" for name in names):
        return
    job = show(environ["SLURM_JOB_ID"]).strip('"')
    warn(
        f"Slurm: job {job} has an allocation for several tasks, but this process is not in a step: it trains alone. "
        "Start the program with srun to use them all."
    )


def expand_hosts(text: str) -> tuple[str, ...]:
    """Expands a host list such as "n[08-10,12]-ib,login" in Slurm's order.

    Raises:
      ClusterError: the list is malformed (the message has the position), or too long.
    """
    hosts: list[str] = []
    names = [""]  # the expansion so far of the entry that is being read
    position = 0
    closed = text + ","  # so that a comma ends the last entry too
    while position < len(closed):
        piece = _HOST_PIECE.match(closed, position)
        if piece is None or (piece["comma"] and names == [""]):
            raise _bad_hosts(text, position, "a name or a range in brackets is expected")
        if piece["comma"]:
            hosts += names
            names = [""]
        else:
            ends = _expand_ranges(text, piece) if piece["ranges"] else [piece["name"]]
            if len(hosts) + len(names) * len(ends) > _MAX_TASKS:
                raise _bad_hosts(text, position, f"the list exceeds {_MAX_TASKS} hosts")
            names = [name + end for name in names for end in ends]  # The leftmost range is slowest.
        position = piece.end()
    return tuple(hosts)


def expand_counts(text: str) -> tuple[int, ...]:
    """Expands the tasks per node, such as "2(x3),1", to one number for each node.

    Raises:
      ClusterError: the text is malformed, or has too many tasks.
    """
    counts: list[int] = []
    total = 0
    for part in text.split(","):
        match = _TASKS.fullmatch(part)
        if match is None or int(match[1]) == 0:
            raise ClusterError(
                f"Slurm: the tasks per node are {show(text)}, not understood at {show(part)}. "
                'Start the program with srun, which writes them like "2(x3),1".'
            )
        count, repeats = int(match[1]), int(match[2] or 1)
        total += count * repeats
        if total > _MAX_TASKS:
            raise ClusterError(
                f"Slurm: the tasks per node are {show(text)}, over {_MAX_TASKS} tasks in all. Start fewer tasks."
            )
        counts += [count] * repeats
    return tuple(counts)


def place_tasks(counts: tuple[int, ...], plane: int) -> list[tuple[int, int]]:
    """Places tasks on nodes as Slurm does: `plane` tasks on each node in turn, until the node is full.

    Args:
      counts: the number of tasks on each node.
      plane: tasks a node receives in a row; 1 is Slurm's cyclic distribution, max(counts) block.

    Returns:
      (node, index among that node's tasks) of each rank.
    """
    places = [(node, index) for node, count in enumerate(counts) for index in range(count)]
    return sorted(places, key=lambda place: (place[1] // plane, *place))


def _read(environ: Mapping[str, str], *names: str) -> str:
    # The first name is the step's own; later ones are what older versions of Slurm set.
    for name in names:
        if environ.get(name):
            return environ[name]
    raise ClusterError(
        f"Slurm: {names[0]} is not set, though SLURM_JOB_ID is. "
        "Start the program with srun, and let it pass on its SLURM_ variables."
    )


def _read_int(environ: Mapping[str, str], *names: str) -> int:
    text = _read(environ, *names)
    if not re.fullmatch("[0-9]{1,10}", text):
        raise ClusterError(f"Slurm: {names[0]} is {show(text)}, not a number. Start with srun.")
    return int(text)


def _read_hosts(environ: Mapping[str, str], size: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    hosts = expand_hosts(_read(environ, "SLURM_STEP_NODELIST", "SLURM_NODELIST"))
    counts = expand_counts(_read(environ, "SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"))
    if len(hosts) != len(counts) or sum(counts) != size:
        raise ClusterError(
            f"Slurm: the step has {size} tasks, but its variables name {len(hosts)} hosts, and "
            f"{sum(counts)} tasks on {len(counts)} nodes. "
            "Start the program with srun, without changing SLURM_ variables."
        )
    return hosts, counts


def _read_plane(environ: Mapping[str, str]) -> int:
    # "cyclic:block,Pack": only the first word is about nodes, the others are about their cores.
    text = environ.get("SLURM_DISTRIBUTION", "")
    word = re.split("[:,=]", text.lower())[0]
    if word in ("", "*", "block"):
        return _MAX_TASKS
    if word == "cyclic":
        return 1
    if word == "plane":
        return max(1, _read_int(environ, "SLURM_DIST_PLANESIZE"))
    raise ClusterError(
        f"Slurm: SLURM_DISTRIBUTION is {show(text)}, which does not determine the rank of each task. "
        "Start with srun --distribution=block."
    )


def _advise(environ: Mapping[str, str], usual: str) -> str:
    """Returns what to do about a number of a task that its step does not have."""
    if environ.get("SLURM_HET_SIZE", "1") == "1":
        return usual
    # There Slurm numbers the tasks of all components, while the other variables describe one component.
    return (
        f"SLURM_HET_SIZE is {show(environ['SLURM_HET_SIZE'])}: a step over several components of a heterogeneous job "
        "cannot be read. Start on one component (srun --het-group=0), or set TF_CONFIG."
    )


def _check_place(environ: Mapping[str, str], rank: int, node: int, index: int) -> None:
    for name, expected in (("SLURM_NODEID", node), ("SLURM_LOCALID", index)):
        found = environ.get(name, str(expected))
        if found != str(expected):
            raise ClusterError(
                f"Slurm: {name} is {show(found)}, but by SLURM_DISTRIBUTION task {rank} "
                f"should have {expected}. {_advise(environ, 'Start with srun --distribution=block.')}"
            )


def _read_shared_gpus(environ: Mapping[str, str]) -> tuple[str, ...]:
    for name in _BINDINGS:
        if environ.get(name) and "none" not in environ[name]:
            return ()
    here = environ.get("SLURM_GPUS_ON_NODE", "")
    count = int(here) if re.fullmatch("[0-9]{1,4}", here) else 0
    # Not SLURM_JOB_GPUS, because a batch script passes the ids of its own node to all others.
    visible = read_visible(environ)
    if visible is None and "SLURM_STEP_GPUS" in environ:
        visible = parse_ids(environ["SLURM_STEP_GPUS"])
    if visible is None:
        return tuple(map(str, range(count)))
    # With fewer than the node has for this step, a wrapper script has given each task its own.
    return visible if len(visible) >= count else ()


def _expand_ranges(text: str, piece: re.Match[str]) -> list[str]:
    numbers: list[str] = []
    position = piece.start("ranges")
    for part in piece["ranges"].split(","):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise _bad_hosts(text, position, "a number or a range such as 08-11 is expected")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise _bad_hosts(text, position, f"the range {part} runs backwards")
        if len(numbers) + last - first >= _MAX_TASKS:
            raise _bad_hosts(text, position, f"the list exceeds {_MAX_TASKS} hosts")
        # The first number sets the width: 08-11 is 08, 09, 10, 11.
        numbers += (str(number).zfill(len(match[1])) for number in range(first, last + 1))
        position += len(part) + 1
    return numbers


def _bad_hosts(text: str, position: int, problem: str) -> ClusterError:
    return ClusterError(
        f"Slurm: the host list {show(text)} is not understood at character {position + 1}: "
        f'{problem}. Start the program with srun, which writes it like "n[08-11],login".'
    )
