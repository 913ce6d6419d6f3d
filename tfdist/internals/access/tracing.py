"""Traces tfdist's own functions as they are written, and the user's through AutoGraph."""

import contextlib
import functools
import itertools
from collections.abc import Callable
from typing import Any, TypeVar

import tensorflow as tf
from tensorflow.python.autograph.core import ag_ctx
from tensorflow.python.autograph.impl import api as autograph
from tensorflow.python.distribute import distribute_lib
from tensorflow.python.framework import ops

from tfdist.internals.access.replica import swapped

# AutoGraph parses each function that it meets and writes another one to a file: 94 % of the CPU time of a first `fit`.
# A decorated function, with all that it calls, is traced as it is written, so branches and loops over tensors are
# `tf.cond` and `tf.while_loop` there. Functions that users call from their own `tf.function` need the decorator too.
_Function = TypeVar("_Function", bound=Callable[..., Any])


def as_written(function: _Function) -> _Function:
    """Makes TensorFlow trace a function as it is written; also a decorator."""
    unconverted: _Function = tf.autograph.experimental.do_not_convert(function)
    return unconverted


def compiled(function, **options):
    """Makes a `tf.function` of tfdist's own code, which is traced as it is written.

    Args:
        function: the function to compile.
        options: as for `tf.function`.
    """
    return tf.function(as_written(function), autograph=False, **options)


def converted(function: _Function) -> _Function:
    """Makes AutoGraph convert a user's function, as `tf.data` does, even where tfdist's own code calls it."""
    by_autograph: _Function = autograph.tf_convert(function, ag_ctx.ControlStatusCtx(ag_ctx.Status.ENABLED))
    return by_autograph


# Larger than any number that TensorFlow's own counter reaches in a process.
_numbers = itertools.count(10**9)


def named_alike():
    """Makes every process that traces the same functions give them the same names while the context is entered.

    TensorFlow's names count all that was made before, and a resumed process has made other things than a new one. XLA's
    cache depends on these names.
    """
    return swapped((ops, "uid", functools.partial(next, _numbers)))


# Of the creator with which a `tf.function` captures variables; those of strategies and users have 100 by default.
_PRIORITY_OF_FUNCTIONS = 50


@contextlib.contextmanager
def creating_variables():
    """Leaves all functions that are being traced, and the replica, while the context is entered in replica context.

    Variables that are created in it are those of the strategy, and stay. `tf.init_scope` alone leaves a `tf.function`
    the variables: it then traces once more, and refuses those of a later trace. A merge call could not be in a branch.
    """
    strategy = tf.distribute.get_strategy() if tf.distribute.has_strategy() else None
    with tf.init_scope():
        graph = ops.get_default_graph()
        before = graph._variable_creator_stack
        graph._variable_creator_stack = [item for item in before if item[0] != _PRIORITY_OF_FUNCTIONS]
        if strategy:
            distribute_lib._push_per_thread_mode(distribute_lib._CrossReplicaThreadMode(strategy))
        try:
            yield
        finally:
            if strategy:
                distribute_lib._pop_per_thread_mode()
            graph._variable_creator_stack = before
