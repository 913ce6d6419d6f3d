"""Processes that a launcher has started and numbered without a list of their addresses."""

import collections
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tfdist.cluster.addresses import ClusterError, join_address, show, split_address
from tfdist.cluster.gpus import count_gpus, divide_gpus, read_visible
from tfdist.cluster.members import Cluster, Task
from tfdist.cluster.ports import first_port
from tfdist.process.errors import UsageError

COORDINATOR = "TFDIST_COORDINATOR"
LOOPBACK = "127.0.0.1"
ALONE_ADVICE = "If this process is to train alone, use --alone, or choose_strategy(alone=True)."
_MOST_ON_A_HOST = 4096


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of a launcher, and the place where they can exchange their addresses.

    Args:
        source: the launcher; it is the first word of every message.
        rank: the number of this process.
        size: the number of all processes.
        coordinator: the host of process 0, as all others can reach it.
        port: the port of the exchange; the workers of a host use the ports after it.
        is_local: whether all processes are on this host.
    """

    source: str
    rank: int
    size: int
    coordinator: str
    port: int
    is_local: bool = False

    @property
    def meeting_point(self) -> str:
        """The address at which process 0 listens during the exchange."""
        return join_address(self.coordinator, self.port)

    def make_cluster(self, hosts: Sequence[str], environ: Mapping[str, str]) -> Cluster:
        """Makes the cluster of processes whose hosts are known.

        Args:
            hosts: the host of each process, by rank.
            environ: the environment variables; processes of one host divide the GPUs that they all see.

        Raises:
            ClusterError: the GPUs of the host cannot be divided.
        """
        listed: collections.Counter[str] = collections.Counter()
        addresses = []
        for host in hosts:
            listed[host] += 1
            # Not the port of the exchange, where a process may still be listening.
            addresses.append(join_address(host, self.port + listed[host]))
        own = hosts[self.rank]
        gpus = _share_gpus(environ, listed[own], hosts[: self.rank].count(own))
        return Cluster({"worker": tuple(addresses)}, Task("worker", self.rank), self.source, gpus)


def read_group(
    environ: Mapping[str, str],
    source: str,
    *,
    rank: str,
    size: str,
    job: str,
    host_size: str = "",
    coordinator: str | None = None,
) -> ProcessGroup | None:
    """Reads a group from the launcher's variables.

    Args:
        environ: the environment variables; TFDIST_COORDINATOR and TFDIST_PORT win over the launcher's.
        source: the name of the launcher.
        rank, size: the names of its variables.
        job: a text of the job's own, the same in all processes.
        host_size: the name of the variable with the number of processes of this host; empty where there is none.
        coordinator: the host of process 0; None where the launcher does not tell.

    Returns:
        The group, or None where this process is the only one.

    Raises:
        ClusterError: a variable is missing or wrong, or nothing tells where process 0 is.
    """
    count = _read_number(environ, size, source)
    if count == 1:
        return None
    number = _read_number(environ, rank, source)
    if number >= count:
        raise ClusterError(
            f"{source}: {rank} is {number}, but {size} is {count}. Number the processes from 0, and start all with one "
            "command."
        )
    port = first_port(environ, zlib.crc32(job.encode(errors="backslashreplace")), min(count, _MOST_ON_A_HOST) + 1)
    if given := environ.get(COORDINATOR):
        coordinator, port = _read_coordinator(given, port, count)
    elif host_size and environ.get(host_size) == str(count):
        return ProcessGroup(source, number, count, LOOPBACK, port, is_local=True)
    if not coordinator:
        raise ClusterError(
            f"{source}: {size} is {count}, but no variable tells on which host process 0 is. Set {COORDINATOR} to that "
            f"host in each process. {ALONE_ADVICE}"
        )
    host, _ = split_address(join_address(coordinator.strip("[]"), port), f"{source}: the address of process 0")
    return ProcessGroup(source, number, count, host, port)


def _read_number(environ: Mapping[str, str], name: str, source: str) -> int:
    text = environ.get(name, "").strip()
    if not text:
        raise ClusterError(f"{source}: {name} is not set. Let the launcher pass on its variables. {ALONE_ADVICE}")
    if not re.fullmatch("[0-9]{1,5}", text):
        raise ClusterError(f"{source}: {name} is {show(text)}, not a number. Let the launcher set it.")
    return int(text)


def _read_coordinator(text: str, port: int, size: int) -> tuple[str, int]:
    has_port = re.search(r":[0-9]*$", text)
    host, port = split_address(text if has_port else f"{text}:{port}", COORDINATOR)
    if port + size > 65535:
        raise ClusterError(
            f"{COORDINATOR}: its port is {port}, and {size} workers use the ports after it. Use a number in "
            f"1..{65535 - size}."
        )
    return host, port


def _share_gpus(environ: Mapping[str, str], tasks: int, index: int) -> tuple[str, ...] | None:
    """Returns the share of the host's GPUs; None where there is nothing to divide."""
    present, ids = count_gpus({}), read_visible(environ)
    # Where fewer are visible than there are, a wrapper script has given each process its own.
    if tasks == 1 or not present or (ids is not None and len(ids) < present):
        return None
    try:
        return divide_gpus(present if ids is None else ids, tasks, index)
    except UsageError as error:
        raise ClusterError(str(error)) from None
