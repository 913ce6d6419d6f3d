"""JSON lines between the launcher and its agents."""

import collections
import json
import os

# Lines for the terminal wait in this much memory; beyond it they are counted only. The log has them.
_WAITING_BYTES = 1 << 20


def read_messages(content):
    """Cuts bytes into messages.

    Returns:
        The messages, and the bytes of one that is not whole yet.
    """
    *lines, rest = content.split(b"\n")
    return [json.loads(line) for line in lines if line.strip()], rest


def parse_event(line):
    """Gives the event of a line, or None for what a shell's start-up file may have said on the other side."""
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) and "event" in message else None


class Outbox:
    """Events on their way to the launcher: never waits for it, so that no worker ever waits for a terminal.

    Args:
        target: a file descriptor; it is made non-blocking.
    """

    def __init__(self, target):
        self._target = target
        os.set_blocking(target, False)
        self._waiting = collections.deque()
        self._bytes = 0
        self._missed = collections.Counter()
        self.broken = False

    @property
    def empty(self):
        """Whether nothing waits."""
        return not self._waiting

    def put(self, **message):
        """Queues an event, whatever waits already."""
        content = json.dumps(message).encode() + b"\n"
        self._waiting.append(content)
        self._bytes += len(content)
        self.flush()

    def put_lines(self, rank, lines):
        """Queues lines for the terminal, or counts them where too many wait."""
        for line in lines:
            if self._bytes > _WAITING_BYTES:
                self._missed[rank] += 1
                continue
            self.put_missed(rank)
            self.put(event="line", rank=rank, text=line)

    def put_missed(self, rank):
        """Queues, where lines of a worker were counted only, how many."""
        if missed := self._missed.pop(rank, 0):
            self.put(event="line", rank=rank, text=f"… {missed} lines are in the log only")

    def flush(self):
        """Writes what the launcher takes now; says whether nothing is left to write."""
        while self._waiting and not self.broken:
            content = self._waiting.popleft()
            try:
                written = os.write(self._target, content)
            except BlockingIOError:
                written = 0
            except OSError:
                # The launcher is gone.
                self.broken = True
                break
            self._bytes -= written
            if written < len(content):
                self._waiting.appendleft(content[written:])
                break
        return self.broken or not self._waiting
