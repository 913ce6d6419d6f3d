"""The rendezvous on worker 0: receives the hellos of the other workers and sends them the result."""

import dataclasses
import selectors
import socket
import time
from collections.abc import Sequence
from typing import Self

from tfdist.cluster.rendezvous.messages import LIMIT_BYTES, VERSION, Json, decode, encode, take_line
from tfdist.process.log import say

# How long a connection may take to send its hello.
_HELLO_SECONDS = 10.0
_UNIDENTIFIED = 64
# How long worker 0 sends the result to the workers, and then to late ones.
FAREWELL_SECONDS = 3.0
_FIRST_LOG_SECONDS = 5.0


@dataclasses.dataclass(eq=False)
class Connection:
    """A connection; its rank is None until its hello."""

    socket: socket.socket
    origin: str
    since: float
    received: bytearray = dataclasses.field(default_factory=bytearray)
    rank: int | None = None
    hello: Json = dataclasses.field(default_factory=dict)


class MeetingServer:
    """Receives the workers' hellos in one thread; connections of other programs do no harm.

    Args:
        listener: the listening socket of worker 0.
        workers: the addresses of all workers.
        timeout_seconds: how long worker 0 waits.

    Attributes:
        trouble: the reason that a worker gave why it cannot take part; else None.
    """

    def __init__(self, listener: socket.socket, workers: Sequence[str], timeout_seconds: float) -> None:
        self._listener, self._workers = listener, tuple(workers)
        self._timeout = timeout_seconds
        self._deadline = time.monotonic() + timeout_seconds
        self._present: dict[int, Connection] = {}
        self._unidentified: list[Connection] = []
        self._departed: set[int] = set()
        self._notes: dict[str, None] = {}
        self._late_answer: bytes | None = None
        self.trouble: str | None = None
        self._selector = selectors.DefaultSelector()
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in [*self._present.values(), *self._unidentified]:
            connection.socket.close()
        self._selector.close()

    @property
    def hellos(self) -> list[Json]:
        """The hellos of the present workers by rank, from worker 1 on."""
        return [self._present[rank].hello for rank in sorted(self._present)]

    @property
    def origins(self) -> list[str]:
        """The IP addresses from which the present workers have connected, by rank, from worker 1 on."""
        return [self._present[rank].origin for rank in sorted(self._present)]

    def absent(self) -> list[int]:
        """Returns the ranks of the absent workers."""
        return [rank for rank in range(1, len(self._workers)) if rank not in self._present]

    def wait(self) -> None:
        """Waits until all workers are present, one has trouble, or the time is over; `absent` then shows which."""
        next_log = time.monotonic() + _FIRST_LOG_SECONDS
        while self.absent() and not self.trouble and (left := self._deadline - time.monotonic()) > 0:
            self._serve(min(left, 0.5))
            if self.absent() and time.monotonic() > next_log:
                say(f"waiting for {self._describe_workers(self.absent())}; {left:.0f} s left.")
                next_log += 3 * _FIRST_LOG_SECONDS

    def describe_absent(self) -> str:
        """Returns a message with the missing workers, other observations, and what to do."""
        absent = self.absent()
        count = f"{len(absent)} of {len(self._workers)} workers missing"
        notes = "".join(f"{note} " for note in list(self._notes)[:3])
        start = "Start it, or see there why it does" if len(absent) == 1 else "Start them, or see there why they do"
        return (
            f"rendezvous: {count} {self._timeout:g} s after the first one started: {self._describe_workers(absent)}. "
            f"{notes}{start} not start; every worker needs the same list of workers, and a way to worker 0 at "
            f"{self._workers[0]} (host name, firewall)."
        )

    def send_result(self, line: bytes, late: bytes) -> None:
        """Sends the result to all present workers, and waits a little until they have closed their connections.

        Args:
            line: the message for the present workers.
            late: the message for workers that come later.
        """
        self._late_answer = late
        end = time.monotonic() + FAREWELL_SECONDS
        for connection in list(self._present.values()):
            if (left := end - time.monotonic()) > 0:
                self._send(connection, line, left)
        # The workers close first, because otherwise TCP would keep this port busy for minutes.
        while self._present and (left := end - time.monotonic()) > 0:
            self._serve(left)

    def answer_late_workers(self, ranks: Sequence[int]) -> None:
        """Sends the result to late workers, until all of them have come or the time is over."""
        end = time.monotonic() + FAREWELL_SECONDS
        self._departed.clear()
        while not self._departed.issuperset(ranks) and (left := end - time.monotonic()) > 0:
            self._serve(left)

    def _describe_workers(self, ranks: Sequence[int]) -> str:
        named = [
            f"worker {rank} ({self._workers[rank]}{', came and left' * (rank in self._departed)})"
            for rank in ranks[:20]
        ]
        return ", ".join(named) + (f" and {len(ranks) - 20} more" if len(ranks) > 20 else "")

    def _serve(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            if key.data is None:
                self._accept()
            else:
                self._read(key.data)
        now = time.monotonic()
        for connection in list(self._unidentified):
            if now - connection.since > _HELLO_SECONDS:
                self._close(connection)

    def _accept(self) -> None:
        try:
            accepted, origin = self._listener.accept()
        except OSError:
            # The connection is gone, or no file descriptor is free; the next one may succeed.
            time.sleep(0.01)
            return
        accepted.setblocking(False)
        connection = Connection(accepted, origin[0].removeprefix("::ffff:"), time.monotonic())
        self._unidentified.append(connection)
        self._selector.register(accepted, selectors.EVENT_READ, connection)
        if len(self._unidentified) > _UNIDENTIFIED + len(self._workers):
            self._close(self._unidentified[0])

    def _read(self, connection: Connection) -> None:
        try:
            received = connection.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received or len(connection.received) > LIMIT_BYTES:
            self._close(connection)
        elif connection.rank is None:
            connection.received += received
            line = take_line(connection.received)
            if line is not None:
                self._handle_hello(connection, decode(line))

    def _handle_hello(self, connection: Connection, message: Json | None) -> None:
        answer = self._refuse(connection, message) if message else None
        if message is None or answer is not None:
            self._send(connection, answer or b"")
            self._close(connection)
            return
        rank = message["rank"]
        if trouble := message.get("trouble"):
            self.trouble = f"rendezvous: worker {rank} ({self._workers[rank]}) cannot take part: {trouble}"
        self._deadline = min(self._deadline, time.monotonic() + message["seconds_left"])
        self._unidentified.remove(connection)
        self._present[rank] = connection
        connection.rank, connection.hello = rank, message["hello"]
        self._departed.discard(rank)
        self._send(connection, encode(welcome=True))

    def _refuse(self, connection: Connection, message: Json) -> bytes | None:
        """Returns the line for a connection that cannot take part, else None."""
        if message["tfdist"] != VERSION:
            self._notes[f"A process at {connection.origin} runs another version of tfdist."] = None
            return _mismatch("worker 0 runs another version of tfdist. Install the same one everywhere.")
        if message.get("workers") != list(self._workers):
            theirs, ours = _show(message.get("workers")), _show(self._workers)
            self._notes[f"A process at {connection.origin} has another list of workers: {theirs}."] = None
            return _mismatch(
                f"worker 0 at {self._workers[0]} has another list of workers, {ours}, than this one, {theirs}. Give "
                "all workers of a run the same list, and each run ports of its own."
            )
        if not _is_complete(message, len(self._workers)):
            return b""
        rank = message["rank"]
        if self._late_answer:
            self._departed.add(rank)
            return self._late_answer
        if rank in self._present:
            first = self._present[rank].origin
            self._notes[f"Worker {rank} came twice, from {first} and {connection.origin}."] = None
            return _mismatch(f"worker {rank} is here already, from {first}. Give each process an index of its own.")
        return None

    def _send(self, connection: Connection, line: bytes, seconds: float = 1.0) -> None:
        try:
            connection.socket.settimeout(seconds)
            connection.socket.sendall(line)
            connection.socket.setblocking(False)
        except OSError:
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        if connection.socket.fileno() < 0:
            return
        self._selector.unregister(connection.socket)
        connection.socket.close()
        if connection.rank is None:
            self._unidentified.remove(connection)
        elif self._present.pop(connection.rank, None):
            self._departed.add(connection.rank)


def _mismatch(problem: str) -> bytes:
    return encode(error=f"rendezvous: {problem}", mismatch=True)


def _is_complete(message: Json, size: int) -> bool:
    rank, seconds = message.get("rank"), message.get("seconds_left")
    return (
        type(rank) is int
        and 0 < rank < size
        and isinstance(seconds, int | float)
        and seconds >= 0
        and isinstance(message.get("hello"), dict)
    )


def _show(workers: object) -> str:
    if not isinstance(workers, list | tuple):
        return "none"
    shown = ", ".join(str(item)[:80] for item in workers[:8])
    return f"[{shown}{', …' if len(workers) > 8 else ''}]"
