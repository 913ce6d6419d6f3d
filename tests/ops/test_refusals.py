"""Errors from within compiled functions and pipelines become tfdist's own again."""

import pytest
import tensorflow as tf

from tfdist.ops.refusals import as_usage_errors, refuse_unless
from tfdist.process.errors import UsageError


def refuse(path):
    with tf.control_dependencies([refuse_unless(tf.constant(False), path, ": [it] isn't (here).")]):
        return tf.identity(path)


@pytest.mark.parametrize("path", ["a [b] (c)/d.jpg", "ä/日本.png", "two\nlines"])
def test_the_message_of_a_pipeline_is_the_message_of_the_error(path):
    data = tf.data.Dataset.from_tensors(path).map(refuse)
    with pytest.raises(UsageError) as error, as_usage_errors():
        tf.function(lambda: next(iter(data)))()
    assert str(error.value) == f"{path}: [it] isn't (here)."


def test_what_holds_is_not_refused_and_other_errors_stay():
    with as_usage_errors():
        refuse_unless(tf.constant(True), "no")
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected"), as_usage_errors():
        tf.debugging.Assert(tf.constant(False), ["as expected"])
