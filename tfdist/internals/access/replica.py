"""Holds what Keras' replaced functions need while a replica is traced, such as the rows of this replica."""

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
        mine: the number of its rows; a replica without rows works on one row that does not count.
        total: the number of rows of all replicas.
        first: the place of its first row in the global batch.
        padded: whether its tensors may end with padding rows, which do not count, as static shapes require.
    """

    mine: tf.Tensor
    total: tf.Tensor
    first: tf.Tensor
    padded: bool = False

    def share(self, dtype):
        """Returns this replica's share of the global batch, 0..1."""
        return tf.cast(self.mine / self.total, dtype)

    def present(self, dtype):
        """Returns 1 where this replica has rows, else 0."""
        return tf.cast(self.mine > 0, dtype)

    def mask(self, values):
        """Returns factors (B, 1, ...) for values (B, ...): 1 for rows that count, 0 for padding rows."""
        places = tf.range(tf.shape(values, out_type=tf.int64)[0])
        return tf.reshape(tf.cast(places < self.mine, values.dtype), [-1] + [1] * (values.shape.rank - 1))


@contextlib.contextmanager
def held(variable, value):
    """Sets a context variable to a value while the context is entered."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


@contextlib.contextmanager
def rows_are(rows):
    """Sets the rows of the replica that is being traced, while the context is entered in replica context."""
    with held(_ROWS, rows), held(_LOSSES, {}):
        yield


def added_losses():
    """Returns the losses that layers have added on the replica that is being traced: a dict, id of a layer → list.

    Returns None outside tfdist's loops.
    """
    return _LOSSES.get()


def current_rows():
    """Returns the `Rows` of the replica that is being traced, or None outside tfdist's loops."""
    return _ROWS.get()


def compiled_by_xla():
    """Marks, while the context is entered, that XLA will compile what is traced; XLA supports no collectives."""
    return held(_XLA, tf.distribute.get_strategy().num_replicas_in_sync > 1)


def is_compiled_by_xla():
    """Returns whether XLA will compile what is traced, on one of several replicas."""
    return _XLA.get()


@contextlib.contextmanager
def swapped(*replacements, lock=_swapping):
    """Replaces attributes while the context is entered.

    Enter it around `strategy.run`, not inside it, because replicas are traced in turns and would restore each other's
    attributes.

    Args:
        *replacements: (owner, name, replacement) each.
        lock: a context that keeps other threads from replacing meanwhile.
    """
    with lock:
        originals = [(owner, name, getattr(owner, name)) for owner, name, _ in replacements]
        for owner, name, replacement in replacements:
            setattr(owner, name, replacement)
        try:
            yield
        finally:
            for owner, name, original in originals:
                setattr(owner, name, original)
