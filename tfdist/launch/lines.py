"""Splits a worker's bytes into lines for a terminal: of any length and encoding, with or without progress bars."""

# The part of a line that is shown and kept; the log has the whole line.
SHOWN_BYTES = 4000


class LineSplitter:
    """Splits a worker's output into lines.

    A carriage return starts the line again, as in a terminal, so that only the last state of a progress bar is left.
    """

    def __init__(self):
        self._line = b""
        self._cut = False

    def feed(self, content):
        """Adds bytes; returns the lines that they complete."""
        *ended, rest = content.split(b"\n")
        lines = []
        for part in ended:
            self._add(part)
            lines += self.rest()
        self._add(rest)
        return lines

    def rest(self):
        """Returns the unfinished line in a list of one; it is empty after the end of a line."""
        line, cut = self._line, self._cut
        self._line, self._cut = b"", False
        return [_newest(line)[:SHOWN_BYTES].decode(errors="replace") + " … (the log has the rest)" * cut]

    def _add(self, part):
        if self._cut and b"\r" not in part:
            return
        line = part if self._cut else self._line + part
        self._cut = False
        if len(line) > SHOWN_BYTES:
            line = _newest(line) + b"\r" * line.endswith(b"\r")
            self._cut = len(line) > SHOWN_BYTES + 1
        self._line = line[: SHOWN_BYTES + 1]


def _newest(line):
    return line.rstrip(b"\r").rpartition(b"\r")[2]
