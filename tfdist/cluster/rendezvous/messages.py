"""The messages of the rendezvous: lines of limited length, with one JSON object each."""

import json
from typing import Any

from tfdist.process.errors import TfdistError, UsageError
from tfdist.process.exits import MISTAKE, PEER_LOST

VERSION = 1
# Enough for the addresses of thousands of workers; another program cannot fill the memory with one line.
LIMIT_BYTES = 2**20

# A JSON object, whose values are whatever JSON can hold.
Json = dict[str, Any]


class RendezvousError(TfdistError, RuntimeError):
    """The workers cannot train together now; the message names the late workers or the obstacle.

    `tfdist.launch` restarts the workers after its exit code, because a late worker may be in time at the next start.
    """

    exit_code = PEER_LOST


class MismatchError(RendezvousError):
    """The workers' fingerprints differ, and a restart would not change that."""

    exit_code = MISTAKE


def encode(**message: Any) -> bytes:
    """Returns a message as a line.

    Raises:
        ValueError: the message is not JSON, or too long.
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


def decode(line: bytes) -> Json | None:
    """Returns the message of a line; None where the line is not a message of tfdist."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) and "tfdist" in message else None


def take_line(received: bytearray) -> bytes | None:
    """Removes and returns the first whole line of the received bytes; None where there is none yet."""
    end = received.find(b"\n")
    if end < 0:
        return None
    line = bytes(received[:end])
    del received[: end + 1]
    return line
