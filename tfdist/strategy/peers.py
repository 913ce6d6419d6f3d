"""Recognizes the errors by which TensorFlow shows that another worker was lost."""

import contextlib

import tensorflow as tf

from tfdist.process.exits import PEER_LOST
from tfdist.process.log import warn

# TensorFlow raises one of these if another worker is gone; which one depends on where the loss was noticed first.
LOSS_ERRORS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)
_LOSS_WORDS = (
    "CoordinationService",
    "collective",
    "Collective",
    "Connection reset",
    "Socket closed",
    "RecvBuf",
    "task:",
)


class PeerLostError(SystemExit):
    """The exit with code 76 of a worker that cannot continue because another worker ended or stopped responding.

    It is a `SystemExit`, so that a user's own script ends with that exit code too, and so that no traceback of this
    worker hides that of the worker that failed.
    """


@contextlib.contextmanager
def exit_on_peer_loss():
    """Turns TensorFlow's errors about the loss of a worker into `PeerLostError`, and logs one line."""
    try:
        yield
    except LOSS_ERRORS as error:
        if not is_peer_loss(error):
            raise
        lines = [line.strip() for line in str(error).splitlines() if any(word in line for word in _LOSS_WORDS)]
        why = f" ({lines[0][:200]})" if lines else ""
        warn(
            "another worker was lost: it ended, or the network to it broke. This worker cannot continue without it. "
            "See the lost worker's log for the cause, and start all workers again to resume from the last checkpoint."
            f"{why}"
        )
        raise PeerLostError(PEER_LOST) from error


def is_peer_loss(error):
    """Returns whether an error of TensorFlow's means that another worker is gone, and not a mistake of this one."""
    return isinstance(error, tf.errors.UnavailableError) or any(word in str(error) for word in _LOSS_WORDS)
