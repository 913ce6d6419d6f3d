"""Errors of tfdist's own within compiled functions and input pipelines, which leave TensorFlow as text."""

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

from tfdist.process.errors import UsageError

# TensorFlow adds its own words before and after the message, and writes some of its signs as C does.
_BEGIN, _END = "tfdist: ", " (tfdist)"
_MESSAGE = re.compile(f"{re.escape(_BEGIN)}(.*?){re.escape(_END)}", re.DOTALL)
_ESCAPED, _SIGNS = re.compile(r"\\(.)"), {"n": "\n", "r": "\r", "t": "\t"}


def refuse_unless(condition: tf.Tensor, *message: tf.Tensor | str) -> tf.Operation:
    """Makes an operation that fails unless a condition holds; what must not run after a failure depends on it.

    Args:
        condition: bool ().
        message: strings (), which are joined.
    """
    return tf.debugging.Assert(condition, [tf.strings.join([_BEGIN, *message, _END])])


@contextlib.contextmanager
def as_usage_errors() -> Iterator[None]:
    """Converts an error of TensorFlow's that `refuse_unless` has caused to the `UsageError` that it is."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if found := _MESSAGE.search(str(error.message)):
            raise UsageError(_ESCAPED.sub(lambda sign: _SIGNS.get(sign[1], sign[1]), found[1])) from None
        raise
