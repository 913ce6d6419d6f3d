"""What the environments that list the hosts of all workers have in common."""

import zlib
from collections.abc import Mapping, Sequence

from tfdist.cluster.addresses import ClusterError, join_address, show
from tfdist.cluster.members import Cluster, Task
from tfdist.cluster.ports import first_port


def make_cluster(
    environ: Mapping[str, str], source: str, *, hosts: Sequence[str], rank: int | str | None, job: str
) -> Cluster | None:
    """Makes the cluster of one worker on each host.

    Args:
        environ: the environment variables; TFDIST_PORT sets the port.
        source: the environment, for messages.
        hosts: the hosts by rank.
        rank: the number of this process, perhaps as digits; None where it is not told.
        job: a text of the job's own, the same in all processes, which chooses the port.

    Returns:
        The cluster, or None for a single host.

    Raises:
        ClusterError: the rank or a host is wrong.
    """
    if len(hosts) == 1:
        return None
    if rank is None or not str(rank).isascii() or not str(rank).isdecimal() or len(str(rank)) > 9:
        raise ClusterError(
            f"{source}: it lists {len(hosts)} hosts, but the number of this one among them is "
            f"{'not set' if rank is None else show(rank)}. Let the scheduler pass on its variables, or set TF_CONFIG."
        )
    port = first_port(environ, zlib.crc32(job.encode(errors="backslashreplace")), 1)
    addresses = tuple(join_address(host, port) for host in hosts)
    return Cluster({"worker": addresses}, Task("worker", int(rank)), source)
