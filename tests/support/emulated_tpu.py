"""Runs the programs of a TPU on CPUs: each core's on a logical device of its own, or that of a single core by XLA.

`TPUStrategy` itself, its variables and its replica context stay as they are. Only what needs the device is replaced:
`tpu.replicate`, the context that tells a core's variables, and the sum over the cores.
"""

import contextlib
import itertools
from unittest import mock

import tensorflow as tf
from tensorflow.python.distribute import tpu_strategy, tpu_util
from tensorflow.python.framework import ops

# TensorFlow knows a sum by its number for the life of the process.
_programs = itertools.count()


class _Core:
    """Stands in for `TPUReplicateContext` while the program of one core is traced.

    Attributes:
        graph: the graph of the program.
        keys: numbers for its sums, the same on every core, and others in each program.
    """

    def __init__(self, number, graph, keys):
        self.number = number
        self.graph = graph
        self.keys = keys

    def get_replicated_var_handle(self, name, handle_id, variables, is_mirrored=False, is_packed=False):
        """Returns the handle of this core's part of a variable."""
        return variables[self.number].handle


class _Emulator:
    def __init__(self, cpus):
        self._cpus = cpus
        self._core = None

    def replicate(self, computation, inputs, **_):
        """Stands in for `tpu.replicate`."""
        self._first_key = 1 + 1000 * next(_programs)
        return [self._run(number, computation, given) for number, given in enumerate(inputs)]

    def _run(self, number, computation, given):
        flat = tf.nest.flatten(given)

        # A function for each core, because TensorFlow would order the sums of all cores within one.
        @tf.function(jit_compile=len(self._cpus) == 1, autograph=False)
        def program(*tensors):
            left = iter(tensors)
            mine = [None if part is None else next(left) for part in flat]
            # The device also makes a user's own `tf.function` be traced for each core.
            with tf.device(self._cpus[number]), self._traces(number):
                return computation(*tf.nest.pack_sequence_as(given, mine))

        return program(*(tf.convert_to_tensor(part) for part in flat if part is not None))

    @contextlib.contextmanager
    def _traces(self, number):
        self._core = _Core(number, ops.get_default_graph(), itertools.count(self._first_key))
        try:
            yield
        finally:
            self._core = None

    def enclosing(self):
        """Stands in for `tpu_util.enclosing_tpu_context_and_graph`."""
        graph = ops.get_default_graph()
        while graph is not None and self._core:
            if graph is self._core.graph:
                return self._core, graph
            graph = getattr(graph, "outer_graph", None)
        return None, None

    def sum_over_cores(self, value):
        """Stands in for `tpu_ops.cross_replica_sum`."""
        value = tf.convert_to_tensor(value)
        # A TPU sums no other types.
        assert value.dtype in tpu_strategy._DTYPES_SUPPORTED_BY_CROSS_REPLICA_SUM
        if len(self._cpus) == 1:
            return value
        return tf.raw_ops.CollectiveReduceV2(
            input=value,
            group_size=len(self._cpus),
            group_key=1,
            instance_key=next(self._core.keys),
            ordering_token=[],
            merge_op="Add",
            final_op="Id",
        )


@contextlib.contextmanager
def emulated(cpus):
    """Makes the programs of `make_tpu(cpus, packs=False)` run, while the context is entered."""
    emulator = _Emulator(cpus)
    with (
        mock.patch.object(tpu_strategy.tpu, "replicate", emulator.replicate),
        mock.patch.object(tpu_strategy.tpu_ops, "cross_replica_sum", emulator.sum_over_cores),
        mock.patch.object(tpu_strategy.tpu_ops, "all_to_all", side_effect=AssertionError("an exchange of rows")),
        mock.patch.object(tpu_util, "enclosing_tpu_context_and_graph", emulator.enclosing),
    ):
        yield
