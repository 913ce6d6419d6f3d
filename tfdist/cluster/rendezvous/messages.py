"""What workers say to each other at the rendezvous: one JSON object a line, of limited length."""

import json
from typing import Any

from tfdist.process.errors import TfdistError, UsageError
from tfdist.process.exits import MISTAKE, PEER_LOST

VERSION = 1
# Enough for the addresses of thousands of workers; a stranger cannot fill the memory with one line.
LIMIT_BYTES = 2**20


class RendezvousError(TfdistError, RuntimeError):
    """The workers cannot train together now; the message says who is late or what is in the way.

    Its exit code is the one that `tfdist.launch` starts again: a late worker may be in time at the next start.
    """

    exit_code = PEER_LOST


class MismatchError(RendezvousError):
    """The workers do not run the same, which no restart mends."""

    exit_code = MISTAKE


def encode(**message: Any) -> bytes:
    """Gives a message as a line.

    Raises:
        ValueError: it is not JSON, or too long.
    """
    try:
        line = json.dumps({"tfdist": VERSION, **message}).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"rendezvous: what a worker sends must be JSON ({error}). Use dicts, lists, texts and numbers."
        ) from None
    if len(line) > LIMIT_BYTES:
        raise UsageError(f"rendezvous: {len(line)} bytes are too much to send. Use {LIMIT_BYTES} or fewer.")
    return line


def decode(line: bytes) -> dict | None:
    """Gives the message in a line; None where the line is none of tfdist's."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) and "tfdist" in message else None


def take_line(received: bytearray) -> bytes | None:
    """Takes the first whole line out of what was received; None where there is none yet."""
    end = received.find(b"\n")
    if end < 0:
        return None
    line = bytes(received[:end])
    del received[: end + 1]
    return line
