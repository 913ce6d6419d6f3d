"""The real `TPUStrategy` over cores that are not there: its programs are traced as for a TPU, up to their start."""

import collections
import dataclasses
import functools
from unittest import mock

import numpy as np
import tensorflow as tf
from tensorflow.python.distribute import device_util, tpu_strategy
from tensorflow.python.eager.polymorphic_function.concrete_function import ConcreteFunction
from tensorflow.python.framework import kernels
from tensorflow.python.tpu.tpu_system_metadata import TPUSystemMetadata

# Nodes that make a program, and its collectives: only a TPU has their kernels.
OF_TPUS = {"CrossReplicaSum", "TPUCompilationResult", "TPUReplicateMetadata"}
# XLA compiles no assertion, and no text of one.
LEFT_OUT = {"Assert", "Const"}
# Nodes that call functions or begin one, which XLA looks through.
CALLS = {"If", "StatelessIf", "While", "StatelessWhile", "PartitionedCall", "StatefulPartitionedCall", "Placeholder"}


class _Topology(tf.distribute.cluster_resolver.SimpleClusterResolver):
    """Describes one host with some cores."""

    def __init__(self, cores):
        super().__init__(tf.train.ClusterSpec({}))
        self._names = [f"/job:localhost/replica:0/task:0/device:TPU:{core}" for core in range(cores)]

    def get_tpu_system_metadata(self):
        devices = [mock.Mock() for _ in self._names]
        for device, name in zip(devices, self._names, strict=True):
            device.name = name
        return TPUSystemMetadata(len(devices), 1, len(devices), None, devices)


class _Extended(tpu_strategy.TPUExtended):
    """A TPU whose variables and input are on logical CPU devices."""

    def stand_in(self, cpus):
        """Puts CPU devices in the places of the cores' memory."""
        self._names = tuple(self._tpu_devices[:, 0])
        cpus = [device_util.canonicalize(cpu) for cpu in cpus]
        self._tpu_devices = np.array([[cpu] for cpu in cpus], dtype=object)
        self._host_device = cpus[0]
        self._device_input_worker_devices = collections.OrderedDict({cpus[0]: list(cpus)})
        self._host_input_worker_devices = collections.OrderedDict({cpus[0]: [cpus[0]] * len(cpus)})

    @property
    def worker_devices(self):
        return self._names


def make_tpu(cpus, *, packs=True):
    """Makes a `TPUStrategy` of as many cores as there are logical CPU devices, which hold its variables.

    Args:
        cpus: their names.
        packs: whether a program takes the cores' parts of a variable as one, as TensorFlow does on TPUs.
    """
    with mock.patch.object(tpu_strategy, "TPUExtended", _Extended):
        strategy = tf.distribute.TPUStrategy(_Topology(len(cpus)))
    strategy.extended.stand_in(cpus)
    strategy._enable_packed_variable_in_eager_mode = packs
    return strategy


class _StartReached(BaseException):
    """A program of a TPU would start. No `except Exception` catches this."""


@dataclasses.dataclass
class Trace:
    """What a TPU would have been given.

    Attributes:
        in_loop: the programs that each turn of a loop starts, by name: lists of their nodes, with those of the
            functions that they call.
        once: the programs outside of loops, in the same form.
    """

    in_loop: dict[str, list] = dataclasses.field(default_factory=dict)
    once: dict[str, list] = dataclasses.field(default_factory=dict)

    @property
    def nodes(self):
        """All nodes of all programs."""
        return [node for nodes in (*self.in_loop.values(), *self.once.values()) for node in nodes]

    @property
    def counts(self):
        """(programs of each turn of a loop, programs outside of loops)."""
        return len(self.in_loop), len(self.once)

    def cannot_run(self):
        """Returns descriptions of the operations that XLA cannot compile: for want of a kernel, or of the types."""
        return sorted({why for node in self.nodes if (why := _why_not(node))})

    def sums(self):
        """Returns the types of the sums over the cores, sorted."""
        return sorted(tf.as_dtype(node.attr["T"].type).name for node in self.nodes if node.op == "CrossReplicaSum")


def trace(function):
    """Calls a function up to the start of its first program for a TPU; returns the `Trace`.

    Raises:
        AssertionError: it has started none.
    """
    started = []
    call = ConcreteFunction._call_flat

    def stop(self, *arguments, **options):
        if tf.executing_eagerly() and _has_programs(self.graph.as_graph_def()):
            started.append(self.graph.as_graph_def())
            raise _StartReached
        return call(self, *arguments, **options)

    with mock.patch.object(ConcreteFunction, "_call_flat", stop):
        try:
            function()
        except _StartReached:
            return _read(started[0])
    raise AssertionError("no program for a TPU was traced")


def _has_programs(graph):
    functions = [function.node_def for function in graph.library.function]
    return any(node.op == "TPUReplicateMetadata" for nodes in (graph.node, *functions) for node in nodes)


def _read(graph):
    functions = {function.signature.name: function.node_def for function in graph.library.function}
    found, seen = Trace(), set()

    def visit(nodes, programs):
        for node in nodes:
            if "_tpu_replicate" in node.attr:
                program = programs.setdefault(node.attr["_tpu_replicate"].s.decode(), [])
                program += [node, *_called(node, functions)]
                continue
            for name in _functions_of(node):
                if name not in seen:
                    seen.add(name)
                    visit(functions[name], found.in_loop if node.op.endswith("While") else programs)

    visit(graph.node, found.once)
    return found


def _called(node, functions):
    for name in _functions_of(node):
        for inner in functions.get(name, ()):
            yield inner
            yield from _called(inner, functions)


def _functions_of(node):
    for value in node.attr.values():
        if value.func.name:
            yield value.func.name
        yield from (function.name for function in value.list.func)


def _why_not(node):
    if node.op in LEFT_OUT:
        return None
    types = {kind for value in node.attr.values() for kind in (value.type, *value.list.type) if kind}
    if tf.string.as_datatype_enum in types:
        return f"{node.op} of strings"
    if node.op in OF_TPUS | CALLS or _has_kernel(node.op):
        return None
    return f"{node.op} has no kernel"


@functools.cache
def _has_kernel(operation):
    _register_kernels()
    registered = kernels.get_registered_kernels_for_op(operation).kernel
    return any(kernel.device_type == "XLA_CPU_JIT" for kernel in registered)


@functools.cache
def _register_kernels():
    """Makes TensorFlow register the kernels of XLA, which it does when it first compiles."""
    tf.function(lambda: tf.constant(1) + 1, jit_compile=True)()
