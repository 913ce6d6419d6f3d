"""Other workers: what it means when a collective fails, and how a lost one is told."""

import contextlib
import time

import tensorflow as tf

from tfdist.process.exits import PEER_LOST
from tfdist.process.log import warn
from tfdist.strategy.choose import worker_count
from tfdist.strategy.workers import make_vote

# What TensorFlow raises where another worker is gone; which one of them depends on where the loss was noticed first.
_KINDS = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError)
_WORDS = ("CoordinationService", "collective", "Collective", "Connection reset", "Socket closed", "RecvBuf", "task:")

_LINGER_SECONDS = 0.1


class PeerLostError(SystemExit):
    """Another worker ended or fell silent, and this one cannot go on: it leaves with the exit code 76.

    It is a `SystemExit`, so that a script of the user's own says as much with its exit code, and no traceback of this
    worker hides the one of the worker that failed.
    """


@contextlib.contextmanager
def peers_are_needed(strategy):
    """Turns the errors by which TensorFlow tells the loss of a worker into `PeerLostError`, with one message.

    Args:
        strategy: the `tf.distribute.Strategy`.
    """
    try:
        yield
    except (*_KINDS, tf.errors.InternalError) as error:
        if worker_count(strategy) == 1 or not tells_a_loss(error):
            raise
        said = [line.strip() for line in str(error).splitlines() if any(word in line for word in _WORDS)]
        why = f" ({said[0][:200]})" if said else ""
        warn(
            "another worker was lost: it ended, or the network to it broke; its own log says why. This worker cannot "
            f"go on without it. Start all of them again to go on from the last checkpoint.{why}"
        )
        raise PeerLostError(PEER_LOST) from error


def wait_for_all(strategy):
    """Waits until all workers are here, at the end: one that left would take away what the others may still need of it.

    A worker that is lost now is none that this one needs: it has left because all were here, or its own exit code tells
    what it failed at.

    Args:
        strategy: the `tf.distribute.Strategy`.
    """
    if worker_count(strategy) == 1:
        return
    try:
        make_vote(strategy)([0.0], [])
    except (*_KINDS, tf.errors.InternalError) as error:
        if not tells_a_loss(error):
            raise
    # Whoever has its sum first would leave the others with an error for a log line.
    time.sleep(_LINGER_SECONDS)


def tells_a_loss(error):
    """Says whether an error of TensorFlow's tells that another worker is gone, and no mistake of this one's."""
    return isinstance(error, tf.errors.UnavailableError) or any(word in str(error) for word in _WORDS)
