"""The JSON lines between the launcher and its agents."""

import collections
import json
import os

# The memory for waiting lines of the terminal; further lines are only counted. The log has them.
_WAITING_BYTES = 1 << 20


def read_messages(content):
    """Splits bytes into messages.

    Returns:
        The messages, and the bytes of an incomplete one.
    """
    *lines, rest = content.split(b"\n")
    return [json.loads(line) for line in lines if line.strip()], rest


class Outbox:
    """Sends events to the launcher without blocking, so that no worker ever waits for a terminal.

    Args:
        target: the file descriptor to write to; it is made non-blocking.
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
        """Whether no event waits."""
        return not self._waiting

    def put(self, **message):
        """Queues an event, even if many wait already."""
        content = json.dumps(message).encode() + b"\n"
        self._waiting.append(content)
        self._bytes += len(content)
        self.flush()

    def put_lines(self, rank, lines):
        """Queues lines for the terminal, or only counts them if too many wait."""
        for line in lines:
            if self._bytes > _WAITING_BYTES:
                self._missed[rank] += 1
                continue
            self.put_missed(rank)
            self.put(event="line", rank=rank, text=line)

    def put_missed(self, rank):
        """Queues the number of a worker's lines that were only counted, if there are any."""
        if missed := self._missed.pop(rank, 0):
            self.put(event="line", rank=rank, text=f"… {missed} lines are in the log only")

    def flush(self):
        """Writes as much as the launcher accepts now; returns whether nothing is left to write."""
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
