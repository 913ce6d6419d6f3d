"""The rendezvous as worker 0 sees it: who has come, who has not, and what all are told."""

import dataclasses
import selectors
import socket
import time
from collections.abc import Sequence

from tfdist.cluster.rendezvous.messages import LIMIT_BYTES, VERSION, decode, encode, take_line
from tfdist.process.log import say

# How long a visitor may take to say who it is.
_SILENCE_SECONDS = 10.0
_STRANGERS = 64
# How long all are told how it went, and how long the late ones are.
FAREWELL_SECONDS = 3.0
_FIRST_WORD_SECONDS = 5.0


@dataclasses.dataclass(eq=False)
class Visitor:
    """A connection: a stranger until its hello, then a worker."""

    socket: socket.socket
    origin: str
    since: float
    received: bytearray = dataclasses.field(default_factory=bytearray)
    rank: int | None = None
    hello: dict = dataclasses.field(default_factory=dict)


class Reception:
    """Takes in the workers' hellos, one thread for all; strangers come and go without harm.

    Args:
        door: the listening socket of worker 0.
        workers: the addresses of all workers.
        timeout_seconds: how long worker 0 waits.

    Attributes:
        trouble: why a worker cannot take part, as it says itself; else None.
    """

    def __init__(self, door: socket.socket, workers: Sequence[str], timeout_seconds: float):
        self._door, self._workers = door, tuple(workers)
        self._timeout = timeout_seconds
        self._deadline = time.monotonic() + timeout_seconds
        self._guests: dict[int, Visitor] = {}
        self._strangers: list[Visitor] = []
        self._left: set[int] = set()
        self._notes: dict[str, None] = {}
        self._verdict: bytes | None = None
        self.trouble: str | None = None
        self._selector = selectors.DefaultSelector()
        door.setblocking(False)
        self._selector.register(door, selectors.EVENT_READ)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for visitor in [*self._guests.values(), *self._strangers]:
            visitor.socket.close()
        self._selector.close()

    @property
    def hellos(self) -> list[dict]:
        """The guests' hellos by rank, from worker 1 on."""
        return [self._guests[rank].hello for rank in sorted(self._guests)]

    def absent(self) -> list[int]:
        """Lists the ranks that are not here."""
        return [rank for rank in range(1, len(self._workers)) if rank not in self._guests]

    def wait(self) -> None:
        """Waits until all are here, one has trouble, or the time is over, which `absent` then shows."""
        word = time.monotonic() + _FIRST_WORD_SECONDS
        while self.absent() and not self.trouble and (left := self._deadline - time.monotonic()) > 0:
            self._serve(min(left, 0.5))
            if self.absent() and time.monotonic() > word:
                say(f"waiting for {self._name(self.absent())}; {left:.0f} s left.")
                word += 3 * _FIRST_WORD_SECONDS

    def describe_absent(self) -> str:
        """Says who is missing, what else was seen, and what to do."""
        absent = self.absent()
        count = f"{len(absent)} of {len(self._workers)} workers missing"
        notes = "".join(f"{note} " for note in list(self._notes)[:3])
        start = "Start it" if len(absent) == 1 else "Start them"
        return (
            f"rendezvous: {count} {self._timeout:g} s after the first one started: {self._name(absent)}. {notes}"
            f"{start}, or see there why not; every worker needs the same list of workers, and a way to worker 0 at "
            f"{self._workers[0]} (host name, firewall)."
        )

    def tell(self, line: bytes, late: bytes) -> None:
        """Tells all guests how it went, and waits a little until they have gone.

        Args:
            line: the message for the guests.
            late: the message for whoever comes now.
        """
        self._verdict = late
        end = time.monotonic() + FAREWELL_SECONDS
        for visitor in list(self._guests.values()):
            if (left := end - time.monotonic()) > 0:
                self._send(visitor, line, left)
        # They close first: no connection is then left that would hold this port for minutes.
        while self._guests and (left := end - time.monotonic()) > 0:
            self._serve(left)

    def linger(self, ranks: Sequence[int]) -> None:
        """Goes on telling those who come late, until all of them have come or the time is over."""
        end = time.monotonic() + FAREWELL_SECONDS
        self._left.clear()
        while not self._left.issuperset(ranks) and (left := end - time.monotonic()) > 0:
            self._serve(left)

    def _name(self, ranks):
        named = [
            f"worker {rank} ({self._workers[rank]}{', came and left' * (rank in self._left)})" for rank in ranks[:20]
        ]
        return ", ".join(named) + (f" and {len(ranks) - 20} more" if len(ranks) > 20 else "")

    def _serve(self, seconds):
        for key, _ in self._selector.select(seconds):
            if key.data is None:
                self._admit()
            else:
                self._read(key.data)
        now = time.monotonic()
        for visitor in list(self._strangers):
            if now - visitor.since > _SILENCE_SECONDS:
                self._dismiss(visitor)

    def _admit(self):
        try:
            connection, origin = self._door.accept()
        except OSError:
            # Gone again, or no file descriptor left: the next one may do better.
            time.sleep(0.01)
            return
        connection.setblocking(False)
        visitor = Visitor(connection, origin[0].removeprefix("::ffff:"), time.monotonic())
        self._strangers.append(visitor)
        self._selector.register(connection, selectors.EVENT_READ, visitor)
        if len(self._strangers) > _STRANGERS + len(self._workers):
            self._dismiss(self._strangers[0])

    def _read(self, visitor):
        try:
            received = visitor.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received or len(visitor.received) > LIMIT_BYTES:
            self._dismiss(visitor)
        elif visitor.rank is None:
            visitor.received += received
            line = take_line(visitor.received)
            if line is not None:
                self._greet(visitor, decode(line))

    def _greet(self, visitor, message):
        answer = self._refuse(visitor, message) if message else b""
        if answer is not None:
            self._send(visitor, answer)
            self._dismiss(visitor)
            return
        rank = message["rank"]
        if trouble := message.get("trouble"):
            self.trouble = f"rendezvous: worker {rank} ({self._workers[rank]}) cannot take part: {trouble}"
        self._deadline = min(self._deadline, time.monotonic() + message["seconds_left"])
        self._strangers.remove(visitor)
        self._guests[rank] = visitor
        visitor.rank, visitor.hello = rank, message["hello"]
        self._left.discard(rank)
        self._send(visitor, encode(welcome=True))

    def _refuse(self, visitor, message):
        """Gives the line for a visitor who cannot take part, else None."""
        if message["tfdist"] != VERSION:
            self._notes[f"Someone at {visitor.origin} runs another version of tfdist."] = None
            return _mismatch("worker 0 runs another version of tfdist. Install the same one everywhere.")
        if message.get("workers") != list(self._workers):
            theirs, ours = _show(message.get("workers")), _show(self._workers)
            self._notes[f"Someone at {visitor.origin} came with another list of workers: {theirs}."] = None
            return _mismatch(
                f"worker 0 at {self._workers[0]} has another list of workers, {ours}, than this one, {theirs}. Give "
                "all workers of a run the same list, and each run ports of its own."
            )
        if not _is_complete(message, len(self._workers)):
            return b""
        rank = message["rank"]
        if self._verdict:
            self._left.add(rank)
            return self._verdict
        if rank in self._guests:
            first = self._guests[rank].origin
            self._notes[f"Worker {rank} came twice, from {first} and {visitor.origin}."] = None
            return _mismatch(f"worker {rank} is here already, from {first}. Give each process an index of its own.")
        return None

    def _send(self, visitor, line, seconds=1.0):
        try:
            visitor.socket.settimeout(seconds)
            visitor.socket.sendall(line)
            visitor.socket.setblocking(False)
        except OSError:
            self._dismiss(visitor)

    def _dismiss(self, visitor):
        if visitor.socket.fileno() < 0:
            return
        self._selector.unregister(visitor.socket)
        visitor.socket.close()
        if visitor.rank is None:
            self._strangers.remove(visitor)
        elif self._guests.pop(visitor.rank, None):
            self._left.add(visitor.rank)


def _mismatch(problem):
    return encode(error=f"rendezvous: {problem}", mismatch=True)


def _is_complete(message, size):
    rank, seconds = message.get("rank"), message.get("seconds_left")
    return (
        type(rank) is int
        and 0 < rank < size
        and isinstance(seconds, int | float)
        and seconds >= 0
        and isinstance(message.get("hello"), dict)
    )


def _show(workers):
    if not isinstance(workers, list | tuple):
        return "none"
    shown = ", ".join(str(item)[:80] for item in workers[:8])
    return f"[{shown}{', …' if len(workers) > 8 else ''}]"
