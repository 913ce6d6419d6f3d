"""Ports: free ones of this machine, and those that all workers of a job work out for themselves."""

import re
import socket
from collections.abc import Mapping

from tfdist.cluster.addresses import ClusterError, show

VARIABLE = "TFDIST_PORT"


def free_ports(count: int) -> tuple[int, ...]:
    """Returns ports that are free now on every interface, because TensorFlow listens on all of them."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for item in sockets:
            item.bind(("", 0))
        return tuple(item.getsockname()[1] for item in sockets)
    finally:
        for item in sockets:
            item.close()


def first_port(environ: Mapping[str, str], job: int, count: int) -> int:
    """Returns the first of the ports that a job uses on each of its hosts, in a row.

    Args:
        environ: the environment variables; TFDIST_PORT sets the port.
        job: a number of the job's own, the same in all its processes.
        count: how many ports are needed on a host.

    Raises:
        ClusterError: TFDIST_PORT is no number of a port, or leaves too few.
    """
    last = 65536 - count
    text = environ.get(VARIABLE)
    if text:
        if not re.fullmatch("[0-9]{1,5}", text) or not 0 < int(text) <= last:
            raise ClusterError(
                f"{VARIABLE}: it is {show(text)}, and {count} tasks on a host need as many "
                f"ports in a row. Use a number in 1..{last}."
            )
        return int(text)
    # Jobs that share a host should not share ports: 16 for each, and all of them below 32768,
    # from where Linux takes ports for outgoing connections.
    return min(10000 + job % 1250 * 16, last)
