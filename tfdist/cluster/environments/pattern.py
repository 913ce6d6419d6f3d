"""tfdist's own variables: TFDIST_WORKERS lists all addresses by a pattern, TFDIST_SIZE only counts the processes."""

import re
from collections.abc import Mapping

from tfdist.cluster.addresses import ClusterError, show
from tfdist.cluster.group import ProcessGroup, read_group
from tfdist.cluster.members import Cluster, Task

# An Indexed Job, a JobSet and a TrainJob of Kubernetes number their pods with the second one.
_INDICES = ("TFDIST_RANK", "JOB_COMPLETION_INDEX")
_MOST_WORKERS = 65536
_RANGE = re.compile(r"\{([0-9]{1,9})\.\.([0-9]{1,9})\}")


def detect(environ: Mapping[str, str]) -> str | None:
    """Returns the variable that is set, TFDIST_WORKERS before TFDIST_SIZE; None without either."""
    return next((name for name in ("TFDIST_WORKERS", "TFDIST_SIZE") if environ.get(name, "").strip()), None)


def read(environ: Mapping[str, str]) -> Cluster | ProcessGroup | None:
    """Reads the cluster from a pattern and an index, or the group from TFDIST_RANK, _SIZE and _COORDINATOR.

    Raises:
        ClusterError: a variable is missing or wrong.
    """
    pattern = environ.get("TFDIST_WORKERS", "").strip()
    if not pattern:
        return read_group(environ, "TFDIST_SIZE", rank="TFDIST_RANK", size="TFDIST_SIZE", job="")
    name = next((name for name in _INDICES if environ.get(name, "").strip()), None)
    if name is None:
        raise ClusterError(
            f"TFDIST_WORKERS: it lists the workers, but neither {' nor '.join(_INDICES)} tells which of them this "
            "process is. Set TFDIST_RANK, with a number from 0 of its own in each process."
        )
    index = environ[name].strip()
    if not re.fullmatch("[0-9]{1,9}", index):
        raise ClusterError(f"TFDIST_WORKERS: {name} is {show(index)}, not a number. Number the workers from 0.")
    return Cluster({"worker": expand(pattern)}, Task("worker", int(index)), "TFDIST_WORKERS")


def expand(pattern: str) -> tuple[str, ...]:
    """Expands a list with ranges in braces, such as "mnist-{0..3}.mnist:2222", in order.

    Raises:
        ClusterError: a range is malformed, or the list is too long.
    """
    expanded: list[str] = []
    for item in pattern.split(","):
        names = [""]
        position = 0
        for found in _RANGE.finditer(item):
            numbers = _count(found)
            if len(expanded) + len(names) * len(numbers) > _MOST_WORKERS:
                raise _bad(found[0], f"lists more than {_MOST_WORKERS} workers")
            names = [name + item[position : found.start()] + number for name in names for number in numbers]
            position = found.end()
        rest = item[position:]
        if "{" in rest or "}" in rest:
            raise _bad(item, "is not understood")
        expanded += (name + rest for name in names)
    return tuple(expanded)


def _count(found: re.Match[str]) -> list[str]:
    first, last = int(found[1]), int(found[2])
    if last < first or last - first >= _MOST_WORKERS:
        raise _bad(found[0], "runs backwards" if last < first else f"lists more than {_MOST_WORKERS} workers")
    # As in a shell, leading zeros set the width: {08..11} is 08, 09, 10, 11.
    width = len(found[1]) if found[1][0] == "0" else 0
    return [str(number).zfill(width) for number in range(first, last + 1)]


def _bad(part: str, problem: str) -> ClusterError:
    return ClusterError(
        f"TFDIST_WORKERS: {show(part)} {problem}. Write addresses with commas between, and ranges as in "
        '"w-{0..3}:2222".'
    )
