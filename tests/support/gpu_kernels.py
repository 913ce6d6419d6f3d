"""Looks traced programs up in TensorFlow's registry of kernels, as if they ran on GPUs; no GPU is needed for that.

The first logical CPU stands for the host, and each later one for a GPU. What no device is asked for goes to a GPU where
a kernel is registered for it, as TensorFlow places it.
"""

import collections
import contextlib
import fnmatch
import functools
import unittest.mock
from typing import NamedTuple

import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.python.framework import kernels

from tfdist.internals.access import runtime
from tfdist.synchronous.step import calls

GPU, XLA = "GPU", "XLA_GPU_JIT"
# They are inlined into the program around them, or stand for its arguments.
_STRUCTURE = {"While", "StatelessWhile", "If", "StatelessIf", "Case", "PartitionedCall", "StatefulPartitionedCall"}
_ARGUMENTS = {"Placeholder", "_Arg", "_Retval"}
# A loop carries its variables through these.
_OF_LOOPS = ("Enter", "Merge", "Switch", "NextIteration", "Exit")
_LARGE = 1024


class Place(NamedTuple):
    """An operation of a program.

    Attributes:
        op: the `tf.Operation`.
        device: the device that it was asked to run on, perhaps by the call around it; "" for none.
        by_xla: whether XLA compiles it.
        is_whole: whether it is in the program itself, not in a function that is called there.
    """

    op: tf.Operation
    device: str
    by_xla: bool
    is_whole: bool

    @property
    def name(self):
        """The operation's type with its types of numbers."""
        values = (self.op.node_def.attr[attr.name] for attr in self.op.op_def.attr if "type" in attr.type)
        numbers = [number for value in values for number in (value.list.type or [value.type]) if number]
        return f"{self.op.type}({', '.join(tf.as_dtype(number).name for number in dict.fromkeys(numbers))})"

    @property
    def is_on_host(self):
        """Whether it was asked to run on the host."""
        return self.device.endswith("CPU:0")


class Findings(NamedTuple):
    """What a program would do on GPUs.

    Attributes:
        missing: operations without a kernel for GPUs: name → how many.
        large: arguments of at least `_LARGE` elements, or of unknown size, that a kernel takes from the host's memory.
        reads: what the host reads from a GPU's memory, for which it waits for all work of the GPU before: conditions
            of loops and branches, sizes, arguments of operations on the host.
        known: the number of operations that have a kernel.
    """

    missing: dict[str, int]
    large: dict[str, int]
    reads: dict[str, int]
    known: int


def operations(graph, device="", by_xla=False, is_whole=True):
    """Yields a `Place` for each operation of a graph and of the functions that it calls."""
    for op in graph.get_operations():
        place = Place(op, op.device or device, by_xla, is_whole)
        yield place
        for function in _functions(op):
            compiled = "_XlaMustCompile" in op.node_def.attr and op.get_attr("_XlaMustCompile")
            yield from operations(function, place.device, by_xla or compiled, is_whole=False)


def _functions(op):
    for value in op.node_def.attr.values():
        for function in (value.func, *value.list.func):
            if function.name and (found := op.graph._get_function(function.name)):
                yield found.graph


@functools.cache
def _registered(name):
    return [kernel for kernel in kernels.get_registered_kernels_for_op(name).kernel if not kernel.label]


def kernel_of(op, device=GPU):
    """Returns the kernel that is registered for an operation with its types on a kind of device, or None."""
    fitting = [
        kernel
        for kernel in _registered(op.type)
        if kernel.device_type in (device, "DEFAULT") and all(_allows(each, op) for each in kernel.constraint)
    ]
    return max(fitting, key=lambda kernel: (kernel.device_type == device, kernel.priority), default=None)


def _allows(constraint, op):
    value = op.node_def.attr[constraint.name]
    return set(value.list.type or [value.type]) <= set(constraint.allowed_values.list.type)


def _named(op, arguments, tensors):
    """Yields (name of the argument, tensor)."""
    waiting = iter(tensors)
    for argument in arguments:
        count = 1
        if argument.number_attr:
            count = op.get_attr(argument.number_attr)
        elif argument.type_list_attr:
            count = len(op.node_def.attr[argument.type_list_attr].list.type)
        for _ in range(count):
            yield argument.name, next(waiting)


def host_tensors(op, kernel):
    """Returns the inputs and outputs of an operation that its kernel has in the host's memory: (inputs, outputs)."""
    names = set(kernel.host_memory_arg)
    inputs = [tensor for name, tensor in _named(op, op.op_def.input_arg, op.inputs) if name in names]
    return inputs, [tensor for name, tensor in _named(op, op.op_def.output_arg, op.outputs) if name in names]


def look(graph):
    """Returns the `Findings` of a graph and all that it calls."""
    missing, large, reads = collections.Counter(), collections.Counter(), collections.Counter()
    known = 0
    for place in operations(graph):
        op = place.op
        if op.type in _ARGUMENTS:
            continue
        kernel = kernel_of(op, XLA if place.by_xla else GPU)
        if not place.by_xla:
            reads.update(f"{place.name} reads {name}" for name in _read_by_host(place, kernel))
        if place.is_on_host or op.type in _STRUCTURE:
            continue
        if kernel is None:
            missing[place.name] += 1
            continue
        known += 1
        if not place.by_xla:
            inputs, outputs = host_tensors(op, kernel)
            large.update(f"{place.name} {tensor.shape}" for tensor in (*inputs, *outputs) if _is_large(tensor))
    return Findings(dict(missing), dict(large), dict(reads), known)


def _is_large(tensor):
    if tensor.dtype in (tf.resource, tf.variant):
        return False
    size = tensor.shape.num_elements()
    return size is None or size >= _LARGE


def _read_by_host(place, kernel):
    """Yields the names of what an operation reads from a GPU's memory on the host."""
    op = place.op
    if op.type in ("If", "StatelessIf", "Case"):
        needed = [(op.inputs[0], place)]
    elif op.type in ("While", "StatelessWhile"):
        condition = op.graph._get_function(op.get_attr("cond").name).graph.outputs[0]
        needed = [(condition, place._replace(is_whole=False))]
    elif op.type in _STRUCTURE:
        needed = []
    elif place.is_on_host or kernel is None:
        needed = [(tensor, place) for tensor in op.inputs]
    else:
        needed = [(tensor, place) for tensor in host_tensors(op, kernel)[0]]
    for tensor, user in needed:
        if name := _name_on_gpu(tensor, user):
            yield name


def _name_on_gpu(tensor, user):
    """Returns the name of the operation that made a tensor if it is in a GPU's memory, else None."""
    op = tensor.op
    # The device of the call around both is that of what asks for none itself.
    inherited = "" if user.op.device else user.device
    place = Place(op, op.device or inherited, False, user.is_whole)
    if tensor.dtype in (tf.resource, tf.variant, tf.string) or op.type == "Const" or place.is_on_host:
        return None
    if op.type in _ARGUMENTS or op.type in _STRUCTURE:
        # Whoever calls the program has its arguments where they are needed.
        on_host = (op.type in _ARGUMENTS and user.is_whole) or _is_carried_on_host(tensor.dtype)
        return None if on_host else f"{'an argument' if op.type in _ARGUMENTS else op.type}({tensor.dtype.name})"
    if op.type == "Identity" and op.device in ("", op.inputs[0].op.device):
        # TensorFlow removes it.
        return _name_on_gpu(op.inputs[0], user)
    if _is_constant(tensor) or (op.type.startswith(("Iterator", "Optional")) and not op.device):
        # TensorFlow computes what is known in advance, and leaves an iterator's work where the iterator is.
        return None
    kernel = kernel_of(op)
    if kernel is None or any(tensor is each for each in host_tensors(op, kernel)[1]):
        return None
    return place.name


def _is_constant(tensor):
    op = tensor.op
    if op.type in ("Shape", "Size", "Rank"):
        return op.inputs[0].shape.is_fully_defined()
    if op.type == "Const":
        return True
    return bool(len(op.inputs)) and not op.op_def.is_stateful and all(map(_is_constant, op.inputs))


@functools.cache
def _is_carried_on_host(dtype):
    """Returns whether loops and branches on a GPU carry numbers of a type in the host's memory."""
    number = types_pb2.DataType.Value(f"DT_{'HALF' if dtype == tf.float16 else _enum_name(dtype)}")
    for name in _OF_LOOPS:
        fitting = [
            kernel
            for kernel in _registered(name)
            if kernel.device_type == GPU
            and all(number in each.allowed_values.list.type for each in kernel.constraint if each.name == "T")
        ]
        if not any("output" in kernel.host_memory_arg or "output_true" in kernel.host_memory_arg for kernel in fitting):
            return False
    return True


def _enum_name(dtype):
    return {tf.float32: "FLOAT", tf.float64: "DOUBLE"}.get(dtype, dtype.name.upper())


class _Stopped(BaseException):
    """Ends a call of tfdist where its first program would run."""


@contextlib.contextmanager
def stopped_before_running():
    """Yields a list that gets the graph of the first program that would run, after which the context is left.

    What is entered believes that its strategy's devices are GPUs.
    """
    graphs = []

    def stop(program, reading, steps):
        graphs.append(program.traced.of(reading).graph)
        raise _Stopped

    with contextlib.ExitStack() as stack:
        stack.enter_context(unittest.mock.patch.object(runtime, "is_on_cpus", lambda strategy: False))
        for kind in (calls.ManySteps, calls.SingleSteps, calls.Predictions):
            stack.enter_context(unittest.mock.patch.object(kind, "__call__", stop))
        stack.enter_context(contextlib.suppress(_Stopped))
        yield graphs


_ACCURACY = "Keras' accuracy takes the signs of outputs as int32"
_LOOKUPS = "numbers of rows that are looked up, and of those that the gradients are of"
_ALL_ROWS = "rows of all replicas: their places are counted on the devices"
_SHAPES = "TensorFlow's gradients compute with shapes"
_RNN = "without XLA, Keras takes cuDNN's layers on GPUs, which cannot be traced here"
_COUNTS = "counts, which TensorFlow cuts on the host"
_CONDITIONS = "Keras' conditions of accumulation, averages and loss scales"
# What begins an operation's name, `*` for anything → why it does no harm that it has no kernel for GPUs.
WITHOUT_KERNEL = {
    "SplitV(int64": _COUNTS,
    "Pad(int64": _ALL_ROWS,
    "MatrixDiagPartV3(int64": "the result of MeanIoU, once a call",
}
# The same for arguments in the host's memory.
SMALL = {
    "Less(int32)": _ACCURACY,
    **dict.fromkeys(("AddV2(int32)", "Size(int32", "Reshape(int32)", "ConcatV2(int32)", "Identity(int32)"), _LOOKUPS),
    **dict.fromkeys(("BroadcastGradientArgs(int32)", "Sum(float32, int32)", "Shape(int32"), _SHAPES),
    **dict.fromkeys(("StridedSlice(int32, int64) (None", "Pad(int32, int64)", "Range(int32)"), _ALL_ROWS),
    **dict.fromkeys(("StopGradient(int32)", "AddN(int32)", "EnsureShape(int32)"), _ALL_ROWS),
}
# The same for what the host reads from a GPU.
NEEDED = {
    "Less(int32) reads BitwiseAnd": _ACCURACY,
    "StatelessRandomGetKeyCounter(int32) reads Cast": "Keras' seeds",
    **dict.fromkeys(("Size(int32) reads SelectV2", "Reshape(int32) reads SelectV2"), _LOOKUPS),
    **dict.fromkeys(("Reshape(float32, int32) reads DynamicStitch", "Pack(int32) reads Prod"), _SHAPES),
    "While(int32, variant, float32, resource) reads LogicalAnd": _RNN,
    "BroadcastGradientArgs(int32) reads TensorListPopBack": _RNN,
    "Reshape(float32, int32) reads TensorListPopBack": _RNN,
    "If(* reads Equal(": _CONDITIONS,
    "SplitV(int64, int32) reads": _COUNTS,
    "MatrixDiagPartV3(int64) reads": "the result of MeanIoU, once a call",
    **dict.fromkeys(("StridedSlice(", "StridedSliceGrad(", "Slice(", "Pad("), _ALL_ROWS),
    **dict.fromkeys(
        ("Identity(int32) reads Cast", "ConcatV2(int32) reads Cast", "Reshape(int32) reads Cast"), _ALL_ROWS
    ),
}


def unexplained(found):
    """Returns what `Findings` have beyond the three lists above."""
    parts = (found.missing, WITHOUT_KERNEL), (found.large, SMALL), (found.reads, NEEDED)
    return [
        name
        for names, known in parts
        for name in names
        if not any(fnmatch.fnmatchcase(name, f"{start}*") for start in known)
    ]
