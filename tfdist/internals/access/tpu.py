"""Reads the program of a TPU: the function given to `strategy.run`, which is traced once for all its cores."""

import tensorflow as tf
from tensorflow.python.distribute import tpu_util
from tensorflow.python.ops import resource_variable_ops


def is_tpu(strategy):
    """Returns whether the replicas of a strategy are the cores of a TPU."""
    return isinstance(strategy, tf.distribute.TPUStrategy)


def program_graph():
    """Returns the graph in which the program of a TPU is being traced; None outside of one."""
    return tpu_util.enclosing_tpu_context_and_graph()[1]


def part_of_core(variable):
    """Returns the part of a distributed `tf.Variable` that belongs to the core whose program is traced.

    An assignment to the variable itself would be exchanged between the cores if its `aggregation` says so.
    """
    return resource_variable_ops.BaseResourceVariable(
        trainable=variable.trainable,
        shape=variable.shape,
        dtype=variable.dtype,
        handle=variable.handle,
        unique_id=variable._unique_id,
        handle_name=variable.name.partition(":")[0],
        in_graph_mode=False,
    )
