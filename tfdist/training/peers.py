"""Reports lost workers, and recognizes the errors by which TensorFlow shows such a loss."""

import contextlib
import time

import tensorflow as tf

from tfdist.process.exits import PEER_LOST
from tfdist.process.log import warn
from tfdist.strategy.choose import worker_count
from tfdist.strategy.workers import make_vote

# TensorFlow raises one of these if another worker is gone; which one depends on where the loss was noticed first.
_LOSS_ERRORS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
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

_LINGER_SECONDS = 0.1


class PeerLostError(SystemExit):
    """The exit with code 76 of a worker that cannot continue because another worker ended or stopped responding.

    It is a `SystemExit`, so that a user's own script ends with that exit code too, and so that no traceback of this
    worker hides that of the worker that failed.
    """


@contextlib.contextmanager
def exit_on_peer_loss(strategy):
    """Turns TensorFlow's errors about the loss of a worker into `PeerLostError`, and logs one line.

    Args:
        strategy: the `tf.distribute.Strategy`.
    """
    try:
        yield
    except (*_LOSS_ERRORS, tf.errors.InternalError) as error:
        if worker_count(strategy) == 1 or not is_peer_loss(error):
            raise
        lines = [line.strip() for line in str(error).splitlines() if any(word in line for word in _LOSS_WORDS)]
        why = f" ({lines[0][:200]})" if lines else ""
        warn(
            "another worker was lost: it ended, or the network to it broke. This worker cannot continue without it. "
            "See the lost worker's log for the cause, and start all workers again to resume from the last checkpoint."
            f"{why}"
        )
        raise PeerLostError(PEER_LOST) from error


def wait_for_all(strategy):
    """Waits at the end of a run until all workers have arrived, because the others may still need each of them.

    A worker that is lost at this point is not needed any more: it left because all had arrived, or its own exit code
    reports its failure.

    Args:
        strategy: the `tf.distribute.Strategy`.
    """
    if worker_count(strategy) == 1:
        return
    try:
        make_vote(strategy)([0.0], [])
    except (*_LOSS_ERRORS, tf.errors.InternalError) as error:
        if not is_peer_loss(error):
            raise
    # The worker that gets its sum first would otherwise leave early, and the others would log an error.
    time.sleep(_LINGER_SECONDS)


def is_peer_loss(error):
    """Returns whether an error of TensorFlow's means that another worker is gone, and not a mistake of this one."""
    return isinstance(error, tf.errors.UnavailableError) or any(word in str(error) for word in _LOSS_WORDS)
