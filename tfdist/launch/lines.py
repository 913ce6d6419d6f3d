"""A worker's bytes → lines for a terminal: of any length, in any encoding, with or without progress bars."""

# Of a line, what is shown and kept; the log has all of it.
SHOWN_BYTES = 4000


class LineSplitter:
    """Cuts what a worker writes into lines.

    A carriage return begins its line anew, as in a terminal: of a progress bar, the last state is left.
    """

    def __init__(self):
        self._line = b""
        self._cut = False

    def feed(self, content):
        """Takes bytes; gives the lines that they complete."""
        *ended, rest = content.split(b"\n")
        lines = []
        for part in ended:
            self._add(part)
            lines += self.rest()
        self._add(rest)
        return lines

    def rest(self):
        """Gives the line that has no end yet, as a list of one, or an empty one after the last end of a line."""
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
