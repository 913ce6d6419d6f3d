"""What each kind of operation makes of the rows of the batch: which axis holds them, and whether it combines them.

The rules of loops and branches are in `row_calls`, those of what takes rows by their places in `row_places`.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfdist.internals.access.known_operations import BROADCASTING


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


def joined(operation, *states):
    """The rule of what works on each row, and of what broadcasts its inputs."""
    output = operation.outputs[0].shape.rank if operation.outputs else None
    if operation.type in BROADCASTING and output is not None:
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


def take_all(operation, *states):
    return _lost(operation, states[0])


def _couple(operation, *states):
    return RowState(coupled_by=operation) if any(state.axis is not None for state in states) else states[0]


def _reduce(operation, values, *_):
    output, axes = operation.outputs[0].shape.rank, axes_of(operation, 1)
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
        return RowState(coupled_by=operation) if values.axis in (axes_of(operation, place) or ()) else values

    return rule


def _in_matrices(operation, values, *more):
    """The rule of linear algebra on the matrices that the last two axes of the first input hold."""
    rank = operation.inputs[0].shape.rank
    if values.axis is not None and rank is not None and values.axis >= rank - 2:
        return RowState(coupled_by=operation)
    sides = zip(more, list(operation.inputs)[1:], strict=True)
    # Each column on the right is solved by itself.
    if any(state.axis is not None and side.shape.rank == state.axis + 2 for state, side in sides):
        return RowState(coupled_by=operation)
    return side_by_side(operation, operation.outputs[0].shape.rank, values, *more)


def _normalize(operation, values, *more):
    in_training = operation.get_attr("is_training") and values.axis is not None
    return RowState(coupled_by=operation) if in_training else side_by_side(operation, None, values, *more)


def _reverse_parts(operation, values, _):
    return RowState(coupled_by=operation) if values.axis == operation.get_attr("seq_dim") else values


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
    joint = side_by_side(operation, operation.outputs[0].shape.rank, *states)
    several = sum(state.axis is not None for state in states) > 1
    along_rows = joint.axis is not None and joint.axis in (axes_of(operation, -1) or ())
    return joint._replace(is_joined=joint.is_joined or (several and along_rows))


def _pack(operation, *states):
    rank = operation.outputs[0].shape.rank
    taken_apart = {state.lost_by for state in states}
    whole = taken_apart.pop() if len(taken_apart) == 1 else None
    if whole and whole.type == "Unpack" and len(whole.outputs) == len(states) > 1 and rank is not None:
        # Row by row, and together again.
        return RowState(axis=operation.get_attr("axis") % rank)
    joint = side_by_side(operation, rank and rank - 1, *states)
    if joint.axis is None or rank is None:
        return joint
    return joint._replace(axis=joint.axis + (operation.get_attr("axis") % rank <= joint.axis))


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
    return _cut(operation, states[values], states[values].axis in (axes_of(operation, axis, of=values) or ()))


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


def _multiply(operation, left, right):
    ranks = [each.shape.rank for each in operation.inputs]
    if None in ranks:
        return joined(operation, left, right)
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
        return joined(operation, *states)
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


def axes_of(operation, place, of=0):
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
    # What they draw does not depend on the labels.
    **dict.fromkeys((f"{kind}CandidateSampler" for kind in ("LogUniform", "Uniform", "LearnedUnigram", "All")), 0),
    **dict.fromkeys(("TensorListReserve", "EmptyTensorList", "TensorListLength", "TensorListElementShape"), 0),
    **dict.fromkeys(("TensorListFromTensor", "TensorListStack", "TensorListGetItem", "TensorListConcatV2"), 1),
}
_REDUCTIONS = ("Sum", "Mean", "Max", "Min", "Prod", "All", "Any", "EuclideanNorm", "ArgMax", "ArgMin")
_TAKING_ALL = (
    *("SegmentSum", "SegmentMean", "SegmentMax", "SegmentMin", "SegmentProd", "SegmentSumV2", "SegmentProdV2"),
    *("UnsortedSegmentSum", "UnsortedSegmentMax", "UnsortedSegmentMin", "UnsortedSegmentProd"),
    *("UniqueV2", "Unique", "UniqueWithCounts", "UniqueWithCountsV2", "Bincount", "DenseBincount"),
    *("SparseSegmentSum", "SparseSegmentMean", "SparseSegmentSqrtN", "HistogramFixedWidth"),
)
_OF_MATRICES = (
    *("Svd", "Qr", "Cholesky", "MatrixInverse", "MatrixDeterminant", "LogMatrixDeterminant", "SelfAdjointEigV2", "Eig"),
    *("MatrixSolve", "MatrixTriangularSolve", "MatrixSolveLs", "MatrixSquareRoot", "MatrixExponential", "Lu"),
    *("MatrixLogarithm", "CholeskyGrad"),
)
RULES = {
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **dict.fromkeys(_TAKING_ALL, take_all),
    **dict.fromkeys(_OF_MATRICES, _in_matrices),
    **dict.fromkeys(("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"), _normalize),
    **dict.fromkeys(("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), _multiply),
    **dict.fromkeys(("TopKV2", "NthElement", "Softmax", "LogSoftmax", "FFT", "IFFT", "RFFT", "IRFFT"), _along_the_last),
    **dict.fromkeys(("ReverseV2", "Cumsum", "Cumprod", "CumulativeLogsumexp"), _along_an_axis(1)),
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
    "ReverseSequence": _reverse_parts,
}
