"""What Keras is to know, while a replica is traced, of the rows that this replica has and of those that it has not."""

import contextlib
import contextvars
import threading
from typing import NamedTuple

import tensorflow as tf

# Each replica is traced in a thread of its own, and a thread has a context of its own.
_ROWS: contextvars.ContextVar = contextvars.ContextVar("rows of this replica", default=None)
_LOSSES: contextvars.ContextVar = contextvars.ContextVar("losses that layers of this replica added", default=None)
_XLA: contextvars.ContextVar = contextvars.ContextVar("compiled by XLA", default=False)
_swapping = threading.RLock()


class Rows(NamedTuple):
    """The rows of the replica that is being traced: int64 scalars.

    Attributes:
        mine: how many rows it has; where there are none, it works on one that does not count.
        total: the rows of all replicas.
        first: the place of its first row in the global batch.
        padded: whether its tensors may hold rows that do not count behind those that do, as static shapes demand.
    """

    mine: tf.Tensor
    total: tf.Tensor
    first: tf.Tensor
    padded: bool = False

    def share(self, dtype):
        """Gives this replica's part of the global batch, 0..1."""
        return tf.cast(self.mine / self.total, dtype)

    def present(self, dtype):
        """Gives 1 where this replica has rows, else 0."""
        return tf.cast(self.mine > 0, dtype)

    def counting(self, values):
        """Gives what values (B, ...) are to be multiplied with: (B, 1, ...), 1 for rows that count, else 0."""
        places = tf.range(tf.shape(values, out_type=tf.int64)[0])
        return tf.reshape(tf.cast(places < self.mine, values.dtype), [-1] + [1] * (values.shape.rank - 1))


@contextlib.contextmanager
def held(variable, value):
    """Gives a context variable a value while it is entered."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


@contextlib.contextmanager
def rows_are(rows):
    """Says, while it is entered in replica context, which rows are being worked on."""
    with held(_ROWS, rows), held(_LOSSES, {}):
        yield


def added_losses():
    """Returns what layers have added as losses on the replica that is traced: a dict, id of a layer → list.

    None outside tfdist's loops.
    """
    return _LOSSES.get()


def current_rows():
    """Gives the `Rows` of the replica that is being traced, or None outside tfdist's loops."""
    return _ROWS.get()


def compiled_by_xla():
    """Says, while it is entered, that what is traced will be compiled by XLA, which knows no collectives."""
    return held(_XLA, tf.distribute.get_strategy().num_replicas_in_sync > 1)


def is_compiled_by_xla():
    """Says whether what is traced will be compiled by XLA, with other replicas beside it."""
    return _XLA.get()


@contextlib.contextmanager
def swapped(*seams):
    """Replaces attributes for a while: (owner, name, replacement) each.

    Enter it around `strategy.run`, not inside: replicas are traced in turns, and would restore one another's.
    """
    with _swapping:
        originals = [(owner, name, getattr(owner, name)) for owner, name, _ in seams]
        for owner, name, replacement in seams:
            setattr(owner, name, replacement)
        try:
            yield
        finally:
            for owner, name, original in originals:
                setattr(owner, name, original)
