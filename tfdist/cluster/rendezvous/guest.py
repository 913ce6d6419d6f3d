"""The rendezvous as the other workers see it: go to worker 0, say hello, wait for its word."""

import contextlib
import socket
import time
from collections.abc import Sequence

from tfdist.cluster.rendezvous.host import FAREWELL_SECONDS
from tfdist.cluster.rendezvous.messages import LIMIT_BYTES, MismatchError, RendezvousError, decode, encode, take_line
from tfdist.cluster.rendezvous.names import look_up
from tfdist.cluster.tf_config import split_address
from tfdist.process.log import say

_ATTEMPT_SECONDS = 2.0
_PAUSE_SECONDS = 0.2
# Whoever takes connections there, and is not worker 0, is left after this time.
_WELCOME_SECONDS = 5.0
_FIRST_WORD_SECONDS = 5.0


class _NotYetError(Exception):
    """This attempt came to nothing; says why."""


def visit(workers: Sequence[str], rank: int, hello: dict, timeout_seconds: float, trouble: str | None = None) -> dict:
    """Meets worker 0.

    Args:
        workers: the addresses of all workers.
        rank: this worker's own.
        hello: what worker 0 compares.
        timeout_seconds: how long to wait.
        trouble: why this worker cannot take part; None if it can.

    Returns:
        What the chief announced.

    Raises:
        RendezvousError: worker 0 is missing, or has said that something is wrong; `MismatchError` where that is a
            difference between the workers.
    """
    start = time.monotonic()
    deadline, word = start + timeout_seconds, start + _FIRST_WORD_SECONDS
    problem = "no answer"
    while (left := deadline - time.monotonic()) > 0:
        try:
            with _connect(workers[0], min(left, _ATTEMPT_SECONDS)) as connection:
                message = {"workers": list(workers), "rank": rank, "hello": hello, "trouble": trouble}
                line = encode(**message, seconds_left=round(max(0.0, deadline - time.monotonic()), 3))
                return _talk(connection, line, deadline)
        except (_NotYetError, OSError) as error:
            problem = _say_why(error)
        if time.monotonic() > word:
            say(f"waiting for worker 0 at {workers[0]} ({problem}); {left:.0f} s left.")
            word += 3 * _FIRST_WORD_SECONDS
        time.sleep(_PAUSE_SECONDS)
    raise RendezvousError(
        f"rendezvous: worker 0 ({workers[0]}) is missing {timeout_seconds:g} s after this worker ({workers[rank]}) "
        f"started: {problem}. Start it, or see there why not; who else is missing, it alone can tell. Every worker "
        "needs the same list of workers, and a way to worker 0 (host name, firewall)."
    )


def _talk(connection, line, deadline):
    """Says hello and waits for worker 0's word."""
    received, welcome = bytearray(), False
    connection.settimeout(_WELCOME_SECONDS)
    connection.sendall(line)
    end = min(deadline, time.monotonic() + _WELCOME_SECONDS)
    while True:
        message = _receive(connection, received, end, "it fell silent" if welcome else "it takes a connection, no more")
        if "error" in message:
            raise (MismatchError if message.get("mismatch") else RendezvousError)(str(message["error"]))
        if isinstance(message.get("announcement"), dict):
            return message["announcement"]
        welcome = True
        # Worker 0 keeps to the first deadline of all; its word then takes a moment.
        end = deadline + FAREWELL_SECONDS + 1


def _receive(connection, received, end, silence):
    while (line := take_line(received)) is None:
        left = end - time.monotonic()
        if left <= 0 or len(received) > LIMIT_BYTES:
            raise _NotYetError(silence)
        connection.settimeout(left)
        try:
            data = connection.recv(65536)
        except TimeoutError:
            raise _NotYetError(silence) from None
        if not data:
            raise _NotYetError("it hung up; it may have ended, or another program has its port")
        received += data
    message = decode(line)
    if message is None:
        raise _NotYetError(f"another program answers there: {line[:40].decode(errors='replace')!r}")
    return message


def _connect(address, seconds):
    host, port = split_address(address)
    end = time.monotonic() + seconds
    problem = OSError("it has no address")
    for family, kind, protocol, _, place in look_up(host, port, seconds):
        connection = socket.socket(family, kind, protocol)
        try:
            # So that the port on this side, chosen by chance, is in nobody's way.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            connection.settimeout(max(0.1, end - time.monotonic()))
            connection.connect(place)
            if connection.getsockname() != connection.getpeername():
                return connection
            # TCP can meet itself where nobody listens and the chance port is the one called.
            problem = ConnectionRefusedError("connection refused")
        except OSError as error:
            problem = error
        with contextlib.suppress(OSError):
            connection.close()
    raise problem


def _say_why(error):
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there"
    if isinstance(error, TimeoutError):
        return "no answer"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
