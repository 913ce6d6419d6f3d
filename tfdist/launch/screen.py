"""The launcher's terminal, which a thread writes, so that a slow terminal delays nothing."""

import contextlib
import os
import queue
import sys
import threading
import time

_WAITING_LINES = 50_000
_CLOSE_SECONDS = 3
_RETRY_SECONDS = 0.05


class Screen:
    """Writes lines of workers to stdout, and messages of the launcher to stderr.

    Args:
        quiet: whether to leave out the messages of `say`.
    """

    def __init__(self, quiet=False):
        self._quiet = quiet
        self._waiting = queue.Queue(_WAITING_LINES)
        self._missed = 0
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def show(self, rank, text):
        """Shows a line of a worker after its rank; drops the line if the terminal is too slow."""
        try:
            self._show_missed()
            self._waiting.put_nowait((sys.stdout, f"[{rank}] {text}"))
        except queue.Full:
            self._missed += 1

    def say(self, text):
        """Shows a message, unless quiet."""
        if not self._quiet:
            self.warn(text)

    def warn(self, text):
        """Shows a message as `tfdist.launch: …`, even if quiet."""
        with contextlib.suppress(queue.Full):
            self._show_missed()
        try:
            self._waiting.put((sys.stderr, f"tfdist.launch: {text}"), timeout=1)
        except queue.Full:
            self._missed += 1

    def close(self):
        """Writes the waiting lines, for some seconds at most."""
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=_CLOSE_SECONDS)
        self._thread.join(_CLOSE_SECONDS)

    def _show_missed(self):
        if self._missed:
            self._waiting.put_nowait((sys.stdout, f"… {self._missed} lines are in the logs only"))
            self._missed = 0

    def _write(self):
        broken = set()
        while (item := self._waiting.get()) is not None:
            stream, text = item
            if stream in broken:
                continue
            try:
                # Without a buffer, because this thread could hold its lock when the interpreter ends.
                content = (text + "\n").encode(errors="replace")
                while content:
                    content = content[_write_some(stream.fileno(), content) :]
            except (OSError, ValueError, AttributeError):
                # The terminal is gone, as after `| head`; the run continues, and the logs have all lines.
                broken.add(stream)


def _write_some(target, content):
    try:
        return os.write(target, content)
    except BlockingIOError:
        # Another process that shares the terminal has made it non-blocking.
        time.sleep(_RETRY_SECONDS)
        return 0
