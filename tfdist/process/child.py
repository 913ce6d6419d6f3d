"""Child processes that exchange lines of JSON with this one, and the loop of a child that answers requests."""

import collections
import contextlib
import faulthandler
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Self

_TAIL_LINES = 20
# Limited, because a process that has left the session may keep a pipe open.
_JOIN_SECONDS = 1.0
# The parent kills a late child. One that is later than this has lost its parent, and ends itself.
_ORPHAN_SECONDS = 10.0


@dataclass(frozen=True)
class Start:
    """How a child starts.

    Attributes:
        command: its command.
        environ: its whole environment.
    """

    command: tuple[str, ...]
    environ: Mapping[str, str]


class JsonLinesChild:
    """A child process in its own session; a message to or from it is a JSON object in a line of stdin or stdout.

    Args:
        command: its command.
        environ: its whole environment; None for that of this process.
        receive: a function that a thread calls with each message, and with None after the end of the child.

    Attributes:
        code: the exit code after the end, -n for signal n.
        tail: the last lines that are no messages, of stderr and of stdout.

    Raises:
        OSError: the command cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str] | None = None,
        *,
        receive: Callable[[dict[str, Any] | None], None],
    ) -> None:
        self.code: int | None = None
        self.tail: collections.deque[str] = collections.deque(maxlen=_TAIL_LINES)
        self._receive = receive
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        # In its own session, so that Ctrl-C reaches only this process, and SIGKILL all that the child has started.
        self._process = subprocess.Popen(
            command,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._threads = [
            threading.Thread(target=target, args=(pipe,), daemon=True)
            for target, pipe in (
                (self._read_errors, self._process.stderr),
                (self._read_messages, self._process.stdout),
                (self._write_messages, self._process.stdin),
            )
        ]
        for thread in self._threads:
            thread.start()

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends a message without waiting, because a child that hangs does not read it."""
        self._outgoing.put(json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        """Closes the child's stdin after all messages."""
        self._outgoing.put(None)

    def signal(self, number: int) -> None:
        """Sends a signal to the child and to all processes of its process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """Sends SIGKILL, because a hung TensorFlow ignores other signals."""
        self.signal(signal.SIGKILL)

    def wait(self, seconds: float) -> bool:
        """Waits for the end of the child; returns whether it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.poll() is not None

    def end(self) -> None:
        """Ends the child with SIGKILL, and closes the pipes."""
        self.kill()
        self.close()
        self._process.wait()
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)

    def _read_messages(self, pipe: IO[bytes]) -> None:
        with pipe:
            for line in pipe:
                message = _parse(line)
                if message is None:
                    self._keep(line)
                else:
                    self._receive(message)
        self.code = self._process.wait()
        self._threads[0].join(_JOIN_SECONDS)
        self._receive(None)

    def _read_errors(self, pipe: IO[bytes]) -> None:
        with pipe:
            for line in pipe:
                self._keep(line)

    def _keep(self, line: bytes) -> None:
        if text := line.decode(errors="replace").strip():
            self.tail.append(text)

    def _write_messages(self, pipe: IO[bytes]) -> None:
        with contextlib.suppress(OSError), pipe:
            while (content := self._outgoing.get()) is not None:
                pipe.write(content)
                pipe.flush()


class ChildGroup:
    """Children that run `serve`, are asked together, and answer by a deadline that ends in SIGKILL.

    They start with the first request; after an error they are ended, and start anew with the next request.

    Args:
        starts: a `Start` for each child.
    """

    def __init__(self, starts: Sequence[Start]) -> None:
        self._starts = starts
        self._children: list[JsonLinesChild] = []
        self._answers: queue.SimpleQueue[tuple[int, dict[str, Any] | None]] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def ask(self, do: str, *, deadline_seconds: float, **values: Any) -> dict[str, Any]:
        """Sends all children the same request, {"do": do, **values}, and waits for all answers.

        Args:
            do: what is asked.
            deadline_seconds: the time limit, which includes the start of the children.
            **values: more of the request, of JSON types.

        Returns:
            The answer of the first child. If a child fails, only its error, and all children have been ended: "error"
            is the reason in words, "deadline" is True if the time was over, and "code" is the exit code of a child
            that has ended.

        Raises:
            OSError: a child cannot be started.
        """
        deadline = time.monotonic() + deadline_seconds
        if not self._children:
            self._start()
        request = {"do": do, "deadline_seconds": deadline_seconds, **values}
        for child in self._children:
            child.send(request)
        answers: dict[int, dict[str, Any]] = {}
        # In the order in which they come: if a child has died, the others may wait for it forever.
        while len(answers) < len(self._children):
            try:
                rank, message = self._answers.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                self.end()
                return {"error": f"no answer within {deadline_seconds:g} s", "deadline": True}
            answers[rank] = _describe_end(self._children[rank]) if message is None else message
            if "error" in answers[rank]:
                self.end()
                return answers[rank]
        return answers[0]

    def signal(self, number: int) -> None:
        """Sends a signal to all children that run, and to the processes that they have started."""
        for child in self._children:
            child.signal(number)

    def end(self) -> None:
        """Ends the children with SIGKILL."""
        for child in self._children:
            child.kill()
        for child in self._children:
            child.end()
        self._children = []

    def _start(self) -> None:
        # A new queue, because those that were ended may still have written to the old one.
        self._answers = queue.SimpleQueue()
        try:
            for rank, start in enumerate(self._starts):
                receive = _make_receive(self._answers, rank)
                self._children.append(JsonLinesChild(start.command, start.environ, receive=receive))
        except OSError:
            self.end()
            raise


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answers the requests of a `ChildGroup` in this process until stdin ends, and then ends the process at once.

    Args:
        answer: a function of a request, {"do": what is asked, …}, that returns the answer, of JSON types. If it
            raises an exception, the answer is {"error": its class and message}.
    """
    # The pipes get file descriptors of their own: other code may print to stdout, or read stdin.
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    for line in requests:
        request = json.loads(line)
        faulthandler.dump_traceback_later(request.pop("deadline_seconds") + _ORPHAN_SECONDS, exit=True)
        try:
            text = json.dumps(answer(request))
        except Exception as error:
            text = json.dumps({"error": f"{type(error).__name__}: {str(error) or 'no message'}"})
        faulthandler.cancel_dump_traceback_later()
        print(text, file=answers, flush=True)
    # An orderly end of TensorFlow may wait for other workers, which may be gone.
    sys.stderr.flush()
    os._exit(0)


def _make_receive(answers: queue.SimpleQueue[Any], rank: int) -> Callable[[dict[str, Any] | None], None]:
    return lambda message: answers.put((rank, message))


def _describe_end(child: JsonLinesChild) -> dict[str, Any]:
    last = f": {child.tail[-1][:300]}" if child.tail else ""
    return {"error": f"its process ended with code {child.code}{last}", "code": child.code}


def _parse(line: bytes) -> dict[str, Any] | None:
    """Returns the message of a line; None for other text, such as that of a shell's start-up file."""
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None
