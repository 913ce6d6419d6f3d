"""What each kind of operation makes of the rows of the batch: which axis holds them, and whether it combines them.

An operation that is not known leaves the rows where they are, so that what is right is never named.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf


class RowState(NamedTuple):
    """What became of the rows of the batch in a tensor; none lead to it where all is None.

    Attributes:
        axis: the axis along which each entry belongs to one row.
        lost_by: the operation that took all rows together, so that no axis holds them.
        chosen_by: the operation that chose some of the rows by their values.
        coupled_by: the operation that combined rows.
        is_joined: whether the axis holds several batches one behind the other, as behind `tf.concat`.
    """

    axis: int | None = None
    lost_by: tf.Operation | None = None
    chosen_by: tf.Operation | None = None
    coupled_by: tf.Operation | None = None
    is_joined: bool = False


def data_inputs(operation):
    """Returns the inputs of an operation from which the values of its outputs come, and not only their shapes."""
    return list(operation.inputs)[: _DATA_INPUTS.get(operation.type)]


def state_behind(operation, states):
    """Returns the state of an operation's outputs.

    Args:
        operation: a `tf.Operation`.
        states: the `RowState` of each of its `data_inputs`; none is coupled.
    """
    return _RULES.get(operation.type, _joined)(operation, *states)


def side_by_side(operation, rank, *states):
    """Returns the state of an output of some rank, or None, whose rows come from the same rows of inputs."""
    lost = next((state.lost_by for state in states if state.lost_by), None)
    with_rows = [state for state in states if state.axis is not None]
    if not with_rows:
        return RowState(lost_by=lost)
    if lost:
        return RowState(coupled_by=lost)
    chosen = next((state.chosen_by for state in with_rows if state.chosen_by), None)
    if rank == 0:
        return _lost(operation, RowState(chosen_by=chosen))
    axis = with_rows[0].axis if rank is None else min(with_rows[0].axis, rank - 1)
    return RowState(axis, chosen_by=chosen, is_joined=any(state.is_joined for state in with_rows))


def _joined(operation, *states):
    """The rule of what is not known, and of what broadcasts its inputs."""
    output = operation.outputs[0].shape.rank if operation.outputs else None
    if operation.type in _BROADCASTING and output is not None:
        ranks = [each.shape.rank for each in operation.inputs]
        axes = [
            None if state.axis is None or rank is None else state.axis + output - rank
            for state, rank in zip(states, ranks, strict=True)
        ]
        # Such as a difference of shapes (B, 1) and (B,): each row meets each.
        if len({axis for axis in axes if axis is not None}) > 1:
            return RowState(coupled_by=operation)
        states = [_at(axis, state) for axis, state in zip(axes, states, strict=True)]
    return side_by_side(operation, output, *states)


def _at(axis, state):
    return state if axis is None else state._replace(axis=axis)


def _lost(operation, values):
    # A mean over rows that were chosen by their values is none over the rows of the batch; a sum adds up.
    return RowState(lost_by=operation, coupled_by=values.chosen_by if operation.type == "Mean" else None)


def _take_all(operation, *states):
    return _lost(operation, states[0])


def _couple(operation, *states):
    return RowState(coupled_by=operation) if any(state.axis is not None for state in states) else states[0]


def _reduce(operation, values, *_):
    output, axes = operation.outputs[0].shape.rank, _axes(operation, 1)
    if values.axis is None:
        return values
    if axes is None:
        # Such as what flows back through a broadcast.
        return _lost(operation, values) if output == 0 else values
    if values.axis in axes:
        # What asks whether labels are all 0 or 1, or numbers finite, gets the same answer from each part of good rows.
        return RowState() if operation.type in ("All", "Any") else _lost(operation, values)
    keeps = output == operation.inputs[0].shape.rank
    return values if keeps else values._replace(axis=values.axis - sum(axis < values.axis for axis in axes))


def _along_an_axis(place):
    """Returns the rule of operations that combine entries along the axes that their input at a place names."""

    def rule(operation, values):
        return RowState(coupled_by=operation) if values.axis in (_axes(operation, place) or ()) else values

    return rule


def _along_the_last(operation, values, *_):
    rank = operation.inputs[0].shape.rank
    return values if rank is None or values.axis != rank - 1 else RowState(coupled_by=operation)


def _transpose(operation, values):
    order = _numbers(operation.inputs[1])
    return values if values.axis is None or order is None else values._replace(axis=order.index(values.axis))


def _expand(operation, values):
    place, rank = _numbers(operation.inputs[1]), operation.outputs[0].shape.rank
    if values.axis is None or place is None or rank is None:
        return values
    return values._replace(axis=values.axis + (place[0] % rank <= values.axis))


def _squeeze(operation, values):
    shape = operation.inputs[0].shape
    if values.axis is None or shape.rank is None:
        return values
    dropped = [axis % shape.rank for axis in operation.get_attr("squeeze_dims")]
    dropped = dropped or [axis for axis, size in enumerate(shape) if size == 1]
    return values._replace(axis=values.axis - sum(axis < values.axis for axis in dropped))


def _reshape(operation, values):
    before, after = operation.inputs[0].shape, operation.outputs[0].shape
    if values.axis is None or after.rank is None:
        return values
    if after.rank == 0:
        return _lost(operation, values)
    if values.axis and before.rank and before[: values.axis].as_list() == after[: values.axis].as_list():
        return values
    return values._replace(axis=next((axis for axis, size in enumerate(after) if size != 1), 0))


def _tile(operation, values):
    times = _numbers(operation.inputs[1])
    repeats = values.axis is not None and times is not None and times[values.axis] != 1
    return values._replace(is_joined=values.is_joined or repeats)


def _concat(operation, *states):
    *states, _ = states
    joined = side_by_side(operation, operation.outputs[0].shape.rank, *states)
    several = sum(state.axis is not None for state in states) > 1
    along_rows = joined.axis is not None and joined.axis in (_axes(operation, -1) or ())
    return joined._replace(is_joined=joined.is_joined or (several and along_rows))


def _pack(operation, *states):
    rank = operation.outputs[0].shape.rank
    joined = side_by_side(operation, rank and rank - 1, *states)
    if joined.axis is None or rank is None:
        return joined
    return joined._replace(axis=joined.axis + (operation.get_attr("axis") % rank <= joined.axis))


def _unpack(operation, values):
    rank = operation.inputs[0].shape.rank
    if values.axis is None or rank is None:
        return values
    place = operation.get_attr("axis") % rank
    if place == values.axis:
        return RowState(lost_by=operation)
    return values._replace(axis=values.axis - (place < values.axis))


def _split(operation, *states):
    # Its inputs are (axis, values) for equal parts, else (values, sizes, axis).
    values, axis = (1, 0) if operation.type == "Split" else (0, 2)
    return _cut(operation, states[values], states[values].axis in (_axes(operation, axis, of=values) or ()))


def _cut(operation, values, along_rows):
    """Returns the state behind a cut: parts of several batches one behind the other may be these batches."""
    return RowState(coupled_by=operation) if along_rows and not values.is_joined else values


def _slice(operation, values):
    begin, size = (_numbers(operation.inputs[place]) for place in (1, 2))
    known = values.axis is not None and begin is not None and size is not None
    return _cut(operation, values, known and (begin[values.axis] != 0 or size[values.axis] != -1))


def _strided_slice(operation, values):
    rank, written = operation.inputs[0].shape.rank, operation.inputs[1].shape[0]
    if values.axis is None or rank is None or written is None:
        return values
    strides = _numbers(operation.inputs[3]) or [1] * written
    ellipsis, new, shrunk, begin, end = (
        [bool(operation.get_attr(f"{name}_mask") >> place & 1) for place in range(written)]
        for name in ("ellipsis", "new_axis", "shrink_axis", "begin", "end")
    )
    of_input, of_output = 0, 0
    for place in range(written):
        if ellipsis[place]:
            covered = rank - (written - 1 - sum(new))
            if of_input <= values.axis < of_input + covered:
                break
            of_input, of_output = of_input + covered, of_output + covered
        elif new[place]:
            of_output += 1
        else:
            if of_input == values.axis:
                is_whole = begin[place] and end[place] and strides[place] == 1
                return _cut(operation, values._replace(axis=of_output), not is_whole)
            of_input, of_output = of_input + 1, of_output + (not shrunk[place])
    return values._replace(axis=values.axis - of_input + of_output)


def _gather(operation, values, places, _):
    """The rule of `tf.gather`: its inputs are (values, places, axis)."""
    batched, axis = operation.get_attr("batch_dims"), _axes(operation, 2)
    axis = None if axis is None else min(axis)
    if values.axis is None and places.axis is not None and not values.lost_by:
        shift = 0 if axis is None or places.axis < batched else axis - batched
        return places._replace(axis=places.axis + shift)
    if values.axis is None or values.axis < batched or places.lost_by:
        return side_by_side(operation, operation.outputs[0].shape.rank, values, places)
    if values.axis == axis:
        # A loop that TensorFlow vectorizes takes one row after the other; `tf.boolean_mask` chooses some.
        in_turns = "/pfor/" in operation.name
        return places if places.chosen_by else values if in_turns else RowState(coupled_by=operation)
    return values if places.axis is None else RowState(coupled_by=operation)


def _choose(operation, *states):
    rows = any(state.axis is not None for state in states)
    return RowState(axis=0, chosen_by=operation) if rows else states[0]


def _multiply(operation, left, right):
    ranks = [each.shape.rank for each in operation.inputs]
    if None in ranks:
        return _joined(operation, left, right)
    turned = ("transpose_a", "transpose_b") if operation.type == "MatMul" else ("adj_x", "adj_y")
    of_left, of_right = (
        _role(state.axis, rank, operation.get_attr(name))
        for state, rank, name in zip((left, right), ranks, turned, strict=True)
    )
    # The axis that is summed is the last one on the left, and the first one on the right.
    of_left, of_right = {0: -2, 1: "sum"}.get(of_left, of_left), {0: "sum", 1: -1}.get(of_right, of_right)
    return _contracted(operation, [(left, of_left), (right, of_right)])


def _role(axis, rank, is_transposed):
    """Returns which side of a matrix an axis is, 0 or 1; or its place before the matrix, counted from the last."""
    if axis is None or axis < rank - 2:
        return None if axis is None else axis - rank
    return (axis - rank + 2) ^ is_transposed


def _einsum(operation, *states):
    inputs, output = operation.get_attr("equation").decode().split("->")
    if "." in inputs:
        return _joined(operation, *states)
    parts = inputs.split(",")
    letters = [None if state.axis is None else part[state.axis] for state, part in zip(states, parts, strict=True)]
    places = {letter: output.index(letter) - len(output) if letter in output else "sum" for letter in letters if letter}
    # Two letters are two places, even if both are summed.
    if len(places) > 1:
        return RowState(coupled_by=operation)
    return _contracted(operation, [(state, places.get(each)) for state, each in zip(states, letters, strict=True)])


def _contracted(operation, factors):
    """Returns the state of a product of (state, where its rows are in the output: from the last axis, or "sum")."""
    places = {place for _, place in factors if place is not None}
    if len(places) > 1:
        return RowState(coupled_by=operation)
    if "sum" in places:
        return RowState(lost_by=operation)
    rank = operation.outputs[0].shape.rank
    placed = [_at(None if place is None or rank is None else place + rank, state) for state, place in factors]
    return side_by_side(operation, rank, *placed)


def _branch(operation, predicate, *states):
    if predicate.lost_by and any(state.axis is not None for state in states):
        return RowState(coupled_by=predicate.lost_by)
    rank = operation.outputs[0].shape.rank if operation.outputs else 0
    return RowState() if rank == 0 else side_by_side(operation, rank, *states)


def _leave(operation, *states):
    """The rule of loops and functions, which are not looked into: where the rows are behind them is not known."""
    return RowState()


def _axes(operation, place, of=0):
    """Returns the axes that an operation is given at a place, counted from the first; None where they are unknown."""
    rank, axes = operation.inputs[of].shape.rank, _numbers(operation.inputs[place])
    return None if rank is None or axes is None else {axis % rank for axis in axes}


def _numbers(tensor):
    value = tf.get_static_value(tensor)
    return None if value is None else np.ravel(value).tolist()


# The other inputs are shapes, places or axes.
_DATA_INPUTS = {
    **dict.fromkeys(("Range", "Fill", "ZerosLike", "OnesLike", "LinSpace"), 0),
    **dict.fromkeys(("Reshape", "ExpandDims", "BroadcastTo", "Tile", "StridedSlice", "Slice", "Transpose"), 1),
    **dict.fromkeys(("Pad", "PadV2", "MirrorPad", "OneHot", "TopKV2", "Roll", "ReverseV2", "SplitV"), 1),
    **dict.fromkeys(("Cumsum", "Cumprod", "CumulativeLogsumexp"), 1),
}
_BROADCASTING = frozenset(
    (
        *("AddV2", "Add", "Sub", "Mul", "MulNoNan", "RealDiv", "Div", "DivNoNan", "FloorDiv", "FloorMod", "Pow"),
        *("Maximum", "Minimum", "SquaredDifference", "SelectV2", "Less", "LessEqual", "Greater", "GreaterEqual"),
        *("Equal", "NotEqual", "LogicalAnd", "LogicalOr", "Xlogy", "Xdivy", "Atan2"),
    )
)
_REDUCTIONS = ("Sum", "Mean", "Max", "Min", "Prod", "All", "Any", "EuclideanNorm", "ArgMax", "ArgMin")
_TAKING_ALL = (
    *("SegmentSum", "SegmentMean", "SegmentMax", "SegmentMin", "SegmentProd", "SegmentSumV2", "SegmentProdV2"),
    *("UnsortedSegmentSum", "UnsortedSegmentMax", "UnsortedSegmentMin", "UnsortedSegmentProd"),
    *("UniqueV2", "Unique", "UniqueWithCountsV2", "Bincount", "DenseBincount"),
)
_CALLS = ("While", "StatelessWhile", "PartitionedCall", "StatefulPartitionedCall")
_RULES = {
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **dict.fromkeys(_TAKING_ALL, _take_all),
    **dict.fromkeys(_CALLS, _leave),
    **dict.fromkeys(("If", "StatelessIf", "Case", "StatelessCase"), _branch),
    **dict.fromkeys(("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), _multiply),
    **dict.fromkeys(("TopKV2", "Softmax", "LogSoftmax"), _along_the_last),
    **dict.fromkeys(("ReverseV2", "Cumsum", "Cumprod", "CumulativeLogsumexp"), _along_an_axis(1)),
    **dict.fromkeys(("Where", "DynamicPartition"), _choose),
    **dict.fromkeys(("Split", "SplitV"), _split),
    "Roll": _along_an_axis(2),
    "RandomShuffle": _couple,
    "Einsum": _einsum,
    "Transpose": _transpose,
    "ExpandDims": _expand,
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "Tile": _tile,
    "ConcatV2": _concat,
    "Pack": _pack,
    "Unpack": _unpack,
    "Slice": _slice,
    "StridedSlice": _strided_slice,
    "GatherV2": _gather,
}
