"""Slurm steps, as `srun` describes them in the environment of each task."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tfdist.cluster.gpus import parse_ids, read_visible
from tfdist.process.errors import TfdistError
from tfdist.process.log import warn

_MAX_TASKS = 65536  # No synchronous training has more; checked before a list is expanded.
_FIRST_SPECIAL_STEP = 0xFFFFFFF0  # Slurm numbers batch and interactive shells from here on.
_BINDINGS = ("SLURM_GPUS_PER_TASK", "SLURM_NTASKS_PER_GPU", "SLURM_GPU_BIND", "SLURM_TRES_BIND")

_HOST_PIECE = re.compile(r"(?P<name>[A-Za-z0-9._-]+)|\[(?P<ranges>[0-9,-]+)\]|(?P<comma>,)")
_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
_TASKS = re.compile(r"([0-9]{1,9})(?:\(x([0-9]{1,9})\))?")


class SlurmError(TfdistError, ValueError):
    """Slurm's variables contradict each other, or describe a step that tfdist cannot run."""


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


def read_step(environ: Mapping[str, str]) -> SlurmStep | None:
    """Reads the step of which this process is a task.

    Args:
      environ: the environment variables; TFDIST_PORT sets the port of each host's first task.

    Returns:
      The step, or None outside a step and for a step of one task.

    Raises:
      SlurmError: a variable is missing, malformed, or contradicts another.
    """
    if not _in_step(environ):
        _log_allocation(environ)
        return None
    size = _read_int(environ, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")
    if size == 1:
        return None
    rank = _read_int(environ, "SLURM_PROCID")
    if rank >= size:
        raise SlurmError(
            f"Slurm: SLURM_PROCID is {rank}, but the step has {size} tasks. "
            "Start the program with srun, without changing SLURM_ variables."
        )
    hosts, counts = _read_hosts(environ, size)
    tasks = place_tasks(counts, _read_plane(environ))
    _check_place(environ, rank, *tasks[rank])
    node, index = tasks[rank]
    port = _read_port(environ, max(counts))
    addresses = tuple(f"{hosts[node]}:{port + index}" for node, index in tasks)
    gpus = _read_shared_gpus(environ) if counts[node] > 1 else ()
    return SlurmStep(addresses, rank, counts[node], index, gpus)


def expand_hosts(text: str) -> tuple[str, ...]:
    """Expands a host list such as "n[08-10,12]-ib,login" in Slurm's order.

    Raises:
      SlurmError: the list is malformed (the message has the position), or too long.
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
      SlurmError: the text is malformed, or has too many tasks.
    """
    counts: list[int] = []
    total = 0
    for part in text.split(","):
        match = _TASKS.fullmatch(part)
        if match is None or int(match[1]) == 0:
            raise SlurmError(
                f"Slurm: the tasks per node are {_show(text)}, not understood at {_show(part)}. "
                'Start the program with srun, which writes them like "2(x3),1".'
            )
        count, repeats = int(match[1]), int(match[2] or 1)
        total += count * repeats
        if total > _MAX_TASKS:
            raise SlurmError(
                f"Slurm: the tasks per node are {_show(text)}, over {_MAX_TASKS} tasks in all. Start fewer tasks."
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


def _in_step(environ: Mapping[str, str]) -> bool:
    # Not SLURM_PROCID, because batch and interactive shells have it too.
    step = environ.get("SLURM_STEP_ID") or environ.get("SLURM_STEPID") or ""
    return bool(re.fullmatch("[0-9]{1,10}", step)) and int(step) < _FIRST_SPECIAL_STEP


def _log_allocation(environ: Mapping[str, str]) -> None:
    names = ("SLURM_NTASKS", "SLURM_NNODES", "SLURM_JOB_NUM_NODES")
    if all(environ.get(name, "1") == "1" for name in names):
        return
    job = _show(environ.get("SLURM_JOB_ID", "?")).strip('"')
    warn(
        f"Slurm: job {job} has an allocation for several tasks, but this process is not in a step: it trains alone. "
        "Start the program with srun to use them all."
    )


def _read(environ: Mapping[str, str], *names: str) -> str:
    # The first name is the step's own; later ones are what older versions of Slurm set.
    for name in names:
        if environ.get(name):
            return environ[name]
    raise SlurmError(
        f"Slurm: {names[0]} is not set, though SLURM_JOB_ID is. "
        "Start the program with srun, and let it pass on its SLURM_ variables."
    )


def _read_int(environ: Mapping[str, str], *names: str) -> int:
    text = _read(environ, *names)
    if not re.fullmatch("[0-9]{1,10}", text):
        raise SlurmError(f"Slurm: {names[0]} is {_show(text)}, not a number. Start with srun.")
    return int(text)


def _read_hosts(environ: Mapping[str, str], size: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    hosts = expand_hosts(_read(environ, "SLURM_STEP_NODELIST", "SLURM_NODELIST"))
    counts = expand_counts(_read(environ, "SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"))
    if len(hosts) != len(counts) or sum(counts) != size:
        raise SlurmError(
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
    raise SlurmError(
        f"Slurm: SLURM_DISTRIBUTION is {_show(text)}, which does not determine the rank of each task. "
        "Start with srun --distribution=block."
    )


def _check_place(environ: Mapping[str, str], rank: int, node: int, index: int) -> None:
    for name, expected in (("SLURM_NODEID", node), ("SLURM_LOCALID", index)):
        found = environ.get(name, str(expected))
        if found != str(expected):
            raise SlurmError(
                f"Slurm: {name} is {_show(found)}, but by SLURM_DISTRIBUTION task {rank} "
                f"should have {expected}. Start with srun --distribution=block."
            )


def _read_port(environ: Mapping[str, str], host_tasks: int) -> int:
    last = 65536 - host_tasks
    text = environ.get("TFDIST_PORT")
    if text:
        if not re.fullmatch("[0-9]{1,5}", text) or not 0 < int(text) <= last:
            raise SlurmError(
                f"TFDIST_PORT: it is {_show(text)}, and {host_tasks} tasks on a host need as many "
                f"ports in a row. Use a number in 1..{last}."
            )
        return int(text)
    job = _read_int(environ, "SLURM_JOB_ID")
    step = _read_int(environ, "SLURM_STEP_ID" if environ.get("SLURM_STEP_ID") else "SLURM_STEPID")
    # Jobs that share a host should not share ports: 16 for each, and all of them below 32768,
    # from where Linux takes ports for outgoing connections.
    return min(10000 + (7 * job + step) % 1250 * 16, last)


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


def _bad_hosts(text: str, position: int, problem: str) -> SlurmError:
    return SlurmError(
        f"Slurm: the host list {_show(text)} is not understood at character {position + 1}: "
        f'{problem}. Start the program with srun, which writes it like "n[08-11],login".'
    )


def _show(text: str) -> str:
    return json.dumps(text[:60]) + "..." * (len(text) > 60)
