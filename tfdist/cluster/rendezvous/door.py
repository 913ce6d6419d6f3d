"""Opens a worker's port before TensorFlow does, so that a port in use is reported with a clear message."""

import errno
import socket
import time

from tfdist.cluster.addresses import split_address
from tfdist.cluster.rendezvous.messages import RendezvousError

# A process that was just killed may keep its port for a moment.
PATIENCE_SECONDS = 1.0


def open_port(address: str, worker: int) -> socket.socket:
    """Listens on a worker's port, on all interfaces, as TensorFlow will.

    Args:
        address: the worker's own "host:port".
        worker: its rank, for messages.

    Returns:
        A listening socket; once it is closed, TensorFlow can take the port.

    Raises:
        RendezvousError: the port cannot be opened; the message names it, the reason and the remedy.
    """
    _, port = split_address(address)
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return _listen(port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > end:
                raise RendezvousError(_explain(error, address, worker, port)) from None
        time.sleep(0.1)


def _listen(port: int) -> socket.socket:
    # On all interfaces, whatever host the address names, because TensorFlow's server does so.
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128)
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
    return socket.create_server(("", port), backlog=128)


def _explain(error: OSError, address: str, worker: int, port: int) -> str:
    what = f"rendezvous: port {port} of this worker (worker {worker}, {address})"
    if error.errno == errno.EADDRINUSE:
        return (
            f"{what} is in use: another process has it. End that process (`ss -ltnp 'sport = :{port}'` names it; it "
            f"may be left over from an earlier run), or give worker {worker} another port, in the list of every worker."
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"{what} may not be opened by this user ({error.strerror}). Use one from 1024 on, in the list of every "
            "worker."
        )
    return f"{what} cannot be opened: {error.strerror or error}. Use another one, in the list of every worker."
