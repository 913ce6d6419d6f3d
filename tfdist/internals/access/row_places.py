"""What operations that take rows by their places, or choose some, make of the rows of the batch."""

import tensorflow as tf

from tfdist.internals.access.row_states import RowState, axes_of, data_inputs, side_by_side, take_all

# What leaves the order of places as it is.
_KEEPS_ORDER = frozenset(
    (
        "Identity",
        "Cast",
        "ExpandDims",
        "Reshape",
        "Tile",
        "BroadcastTo",
        "Transpose",
        "Pack",
        "ConcatV2",
        "Mul",
        "AddV2",
    )
)


def _gather(operation, values, places, _):
    """The rule of `tf.gather`: its inputs are (values, places, axis)."""
    batched, axis = operation.get_attr("batch_dims"), axes_of(operation, 2)
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


def _gather_at(operation, values, places):
    """The rule of `tf.gather_nd`: the last axis of the places names entries along the first axes of the values."""
    depth, rank = (operation.inputs[1].shape.dims or [None])[-1], operation.inputs[1].shape.rank
    if values.axis is None or places.lost_by or depth is None or depth.value is None:
        return side_by_side(operation, operation.outputs[0].shape.rank, values, places)
    if values.axis >= depth.value:
        moved = values._replace(axis=values.axis - depth.value + rank - 1)
        return moved if places.axis is None else RowState(coupled_by=operation)
    if places.chosen_by:
        return places
    return values._replace(axis=0) if _in_order(operation.inputs[1]) else RowState(coupled_by=operation)


def _scatter(operation, places, updates, *_):
    scattered = _behind_places(operation.inputs[0], updates)
    if scattered is not updates or places.axis is None or _in_order(operation.inputs[0]):
        return scattered
    return take_all(operation, updates)


def _scatter_into(operation, values, places, updates):
    updates = _behind_places(operation.inputs[1], updates)
    along = {state.axis for state in (values, updates)} - {None}
    depth = operation.inputs[1].shape.dims and operation.inputs[1].shape.dims[-1].value
    named = depth is None or (along and min(along) < depth)
    if named and along and not places.lost_by and not _in_order(operation.inputs[1]):
        return RowState(coupled_by=operation)
    return side_by_side(operation, operation.outputs[0].shape.rank, values, updates)


def _behind_places(places, updates):
    """Returns the state of updates in the result: rows along axes behind those of the places stay alone."""
    rank, depth = places.shape.rank, places.shape.dims and places.shape.dims[-1].value
    if updates.axis is None or None in (rank, depth) or updates.axis < rank - 1:
        return updates
    return updates._replace(axis=updates.axis - rank + 1 + depth)


def _in_order(places):
    """Returns whether places hold those of the rows, one after the other, as `tf.range` gives them."""
    left, seen = [places], set()
    while left:
        operation = left.pop().op
        if operation.type == "Range" and [*map(tf.get_static_value, operation.inputs)][::2] == [0, 1]:
            return True
        if operation.name not in seen and (operation.type in _KEEPS_ORDER or _only_adds_axes(operation)):
            left += data_inputs(operation)
        seen.add(operation.name)
    return False


def _only_adds_axes(operation):
    if operation.type != "StridedSlice":
        return False
    whole = operation.get_attr("new_axis_mask") | (operation.get_attr("begin_mask") & operation.get_attr("end_mask"))
    strides = tf.get_static_value(operation.inputs[3])
    return strides is not None and all(step == 1 and whole >> place & 1 for place, step in enumerate(strides))


RULES = {
    **dict.fromkeys(("Where", "DynamicPartition"), _choose),
    **dict.fromkeys((f"TensorScatter{what}" for what in ("Update", "Add", "Sub", "Max", "Min")), _scatter_into),
    "GatherV2": _gather,
    "GatherNd": _gather_at,
    "ScatterNd": _scatter,
}
