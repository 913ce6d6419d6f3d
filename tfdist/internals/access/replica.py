"""Holds what Keras' replaced functions need while a replica is traced, such as the rows of this replica."""

import contextlib
import contextvars
import functools
import threading
from typing import NamedTuple

import tensorflow as tf

# Each replica is traced in a thread of its own, and a thread has a context of its own.
_ROWS: contextvars.ContextVar = contextvars.ContextVar("rows of this replica", default=None)
_LOSSES: contextvars.ContextVar = contextvars.ContextVar("losses that layers of this replica added", default=None)
_XLA: contextvars.ContextVar = contextvars.ContextVar("compiled by XLA", default=False)
_TRIAL: contextvars.ContextVar = contextvars.ContextVar("operations over the replicas that were called", default=None)
_swapping = threading.RLock()


class Rows(NamedTuple):
    """The rows of the replica that is being traced: int64 scalars.

    Attributes:
        mine: the number of its rows; a replica without rows works on one row that does not count.
        total: the number of rows of all replicas.
        first: the place of its first row in the global batch.
        padded: whether its tensors may end with padding rows, which do not count, as static shapes require.
        most: None, or the largest number of rows of all replicas in any step: rows that replicas exchange are then
            padded to it, because between processes a collective knows its tensor by one shape within a call.
        whole: whether the tensors hold the rows of all replicas already, so that nothing is to be exchanged.
    """

    mine: tf.Tensor
    total: tf.Tensor
    first: tf.Tensor
    padded: bool = False
    most: int | None = None
    whole: bool = False

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


def all_rows(total):
    """Returns the `Rows` of a replica that works on the rows of all: an int64 scalar, their number."""
    return Rows(total, total, tf.zeros_like(total), whole=True)


@contextlib.contextmanager
def on_trial():
    """Yields a list that gets the name of each of tfdist's operations over the replicas that is called meanwhile.

    Such operations act as on one device then, and a loss or a layer that calls one has taken care of the replicas. An
    outer list gets the names, too.
    """
    outer, names = _TRIAL.get(), []
    with held(_TRIAL, names):
        yield names
    if outer is not None:
        outer.extend(names)


def is_on_trial():
    """Returns whether something is on trial: no step is computed."""
    return _TRIAL.get() is not None


def note_operation(name):
    """Notes that an operation over the replicas is called, if something is on trial."""
    if is_on_trial():
        _TRIAL.get().append(name)


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


def replaced_methods(items, name, make):
    """Replaces a method of some objects while the context is entered, as `swapped` does.

    It is replaced in their classes, because an attribute set on an object would stay there.

    Args:
        items: the objects.
        name: the method's name.
        make: a function of the original, a function (self, …), → its replacement.
    """
    known = {id(item) for item in items}

    def of_kind(method):
        replacement = make(method)

        @functools.wraps(method)
        def call(self, *arguments, **options):
            return (replacement if id(self) in known else method)(self, *arguments, **options)

        return call

    kinds = dict.fromkeys(type(item) for item in items)
    return swapped(*((kind, name, of_kind(getattr(kind, name))) for kind in kinds))
