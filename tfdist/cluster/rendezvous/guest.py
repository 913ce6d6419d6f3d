"""The rendezvous on the other workers: each sends its hello to worker 0 and waits for the result."""

import contextlib
import socket
import time
from collections.abc import Sequence

from tfdist.cluster.addresses import split_address
from tfdist.cluster.rendezvous.host import FAREWELL_SECONDS
from tfdist.cluster.rendezvous.messages import (
    LIMIT_BYTES,
    Json,
    MismatchError,
    RendezvousError,
    decode,
    encode,
    take_line,
)
from tfdist.cluster.rendezvous.names import look_up
from tfdist.process.log import say

_ATTEMPT_SECONDS = 2.0
_PAUSE_SECONDS = 0.2
# If another program accepts the connection, it is closed after this time.
_WELCOME_SECONDS = 5.0
_FIRST_LOG_SECONDS = 5.0


class _NotYetError(Exception):
    """This attempt failed; the message says why."""


def meet_worker_0(
    workers: Sequence[str], rank: int, hello: Json, timeout_seconds: float, trouble: str | None = None
) -> Json:
    """Sends this worker's hello to worker 0 and waits for the result.

    Args:
        workers: the addresses of all workers.
        rank: this worker's own.
        hello: the fingerprint that worker 0 compares.
        timeout_seconds: how long to wait.
        trouble: the reason why this worker cannot take part; None if it can.

    Returns:
        The chief's announcement.

    Raises:
        RendezvousError: worker 0 is missing, or has reported an error.
        MismatchError: the reported error is a difference between the workers.
    """
    start = time.monotonic()
    deadline, next_log = start + timeout_seconds, start + _FIRST_LOG_SECONDS
    problem = "no answer"
    while (left := deadline - time.monotonic()) > 0:
        try:
            with _connect(workers[0], min(left, _ATTEMPT_SECONDS)) as connection:
                message = {"workers": list(workers), "rank": rank, "hello": hello, "trouble": trouble}
                line = encode(**message, seconds_left=round(max(0.0, deadline - time.monotonic()), 3))
                return _send_hello(connection, line, deadline)
        except (_NotYetError, OSError) as error:
            problem = _describe(error)
        if time.monotonic() > next_log:
            say(f"waiting for worker 0 at {workers[0]} ({problem}); {left:.0f} s left.")
            next_log += 3 * _FIRST_LOG_SECONDS
        time.sleep(_PAUSE_SECONDS)
    raise RendezvousError(
        f"rendezvous: worker 0 ({workers[0]}) is missing {timeout_seconds:g} s after this worker ({workers[rank]}) "
        f"started: {problem}. Start it, or see there why it does not start; only worker 0 knows which other "
        "workers are missing. Every worker needs the same list of workers, and a way to worker 0 (host name, firewall)."
    )


def _send_hello(connection: socket.socket, line: bytes, deadline: float) -> Json:
    """Sends the hello; returns the announcement of worker 0."""
    received, welcome = bytearray(), False
    connection.settimeout(_WELCOME_SECONDS)
    connection.sendall(line)
    end = min(deadline, time.monotonic() + _WELCOME_SECONDS)
    while True:
        problem = "it stopped answering" if welcome else "it accepts a connection, but does not answer"
        message = _receive(connection, received, end, problem)
        if "error" in message:
            raise (MismatchError if message.get("mismatch") else RendezvousError)(str(message["error"]))
        announcement = message.get("announcement")
        if isinstance(announcement, dict):
            return announcement
        welcome = True
        # Worker 0 waits until the earliest deadline of all workers; its result then takes a moment.
        end = deadline + FAREWELL_SECONDS + 1


def _receive(connection: socket.socket, received: bytearray, end: float, problem: str) -> Json:
    while (line := take_line(received)) is None:
        left = end - time.monotonic()
        if left <= 0 or len(received) > LIMIT_BYTES:
            raise _NotYetError(problem)
        connection.settimeout(left)
        try:
            data = connection.recv(65536)
        except TimeoutError:
            raise _NotYetError(problem) from None
        if not data:
            raise _NotYetError("it closed the connection; it may have ended, or another program has its port")
        received += data
    message = decode(line)
    if message is None:
        raise _NotYetError(f"another program answers there: {line[:40].decode(errors='replace')!r}")
    return message


def _connect(address: str, seconds: float) -> socket.socket:
    host, port = split_address(address)
    end = time.monotonic() + seconds
    problem = OSError("it has no address")
    for family, kind, protocol, _, target in look_up(host, port, seconds):
        connection = socket.socket(family, kind, protocol)
        try:
            # So that the random port on this side does not block a worker that needs it.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            connection.settimeout(max(0.1, end - time.monotonic()))
            connection.connect(target)
            if connection.getsockname() != connection.getpeername():
                return connection
            # TCP can connect to itself, if nothing listens and the random port is the one called.
            problem = ConnectionRefusedError("connection refused")
        except OSError as error:
            problem = error
        with contextlib.suppress(OSError):
            connection.close()
    raise problem


def _describe(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(error, TimeoutError):
        return "no answer"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
