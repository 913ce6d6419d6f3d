"""What TensorFlow traces: tfdist's own functions as they are written, the user's through AutoGraph."""

import functools
import itertools

import tensorflow as tf
from tensorflow.python.autograph.core import ag_ctx
from tensorflow.python.autograph.impl import api as autograph
from tensorflow.python.framework import ops

from tfdist.internals.access.replica import swapped

# AutoGraph parses each function that it meets, and writes another one to a file: 94 % of the CPU time of a first `fit`.
# What is decorated, and all that it calls, is traced as it stands; branches and loops over tensors are `tf.cond` and
# `tf.while_loop` there. Decorate also what users call from a `tf.function` of their own.
as_written = tf.autograph.experimental.do_not_convert


def compiled(function, **options):
    """Makes a `tf.function` of tfdist's own code: traced as it is written.

    Args:
        function: what is to be compiled.
        options: as for `tf.function`.
    """
    return tf.function(as_written(function), autograph=False, **options)


def converted(function):
    """Lets AutoGraph convert a function of the user's, as `tf.data` does, also where tfdist's own code calls it."""
    return autograph.tf_convert(function, ag_ctx.ControlStatusCtx(ag_ctx.Status.ENABLED))


# Beyond all that a process counts to.
_numbers = itertools.count(10**9)


def named_alike():
    """Has TensorFlow name what is traced, while it is entered, alike in every process that traces the same.

    Names hold a number of all that was made before, and a process that goes on has made other things than one that
    begins. XLA's cache goes by these names.
    """
    return swapped((ops, "uid", functools.partial(next, _numbers)))
