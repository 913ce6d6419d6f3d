"""What loops, branches, functions and the lists of loops make of the rows of the batch.

They are not looked into. What comes out of them with a dimension of the batch has its rows, so that what follows is
looked at.
"""

import tensorflow as tf

from tfdist.internals.access.row_states import RowState, side_by_side

_LOOPS = ("While", "StatelessWhile")
_BRANCHES = ("If", "StatelessIf", "Case", "StatelessCase")


def state_behind_call(tensor, states, sizes):
    """Returns the state of an output of a loop, a branch, a function, or of a list of tensors.

    The axis of rows in a list is that in the tensor that stacks its elements.

    Args:
        tensor: the output.
        states: the `RowState` of each of its operation's `data_inputs`; none is coupled.
        sizes: the sizes of the batch's first dimensions, None where they vary.
    """
    return CALLS[tensor.op.type](tensor, sizes, *states)


def _call(tensor, sizes, *states):
    """The rule of loops and functions."""
    operation, is_list = tensor.op, tensor.dtype == tf.variant
    if tensor.shape.rank == 0 and not is_list and not tensor.dtype.is_floating:
        # Such as the number of the turn.
        return RowState()
    given = list(zip(states, operation.inputs, strict=True))
    # Whole numbers are bounds of loops, such as the longest length.
    lost = next((state.lost_by for state, each in given if state.lost_by and not each.dtype.is_integer), None)
    lists = [state for state, each in given if state.axis is not None and each.dtype == tf.variant]
    others = [state for state, each in given if state.axis is not None and each.dtype != tf.variant]
    if not lists and not others:
        return RowState(lost_by=lost)
    if lost:
        return RowState(coupled_by=lost)
    own = states[tensor.value_index] if operation.type in _LOOPS else RowState()
    if own.axis is not None:
        return _placed(tensor, own, sizes)
    if is_list:
        return lists[0] if lists else others[0]._replace(axis=others[0].axis + 1)
    state = others[0] if others else lists[0]._replace(axis=lists[0].axis - 1)
    return _placed(tensor, state, sizes)


def _placed(tensor, state, sizes):
    """Returns the state of a tensor whose rows are expected along an axis, but may be along another one, or lost."""
    if tensor.dtype == tf.variant or tensor.shape.rank is None or state.axis is None:
        return state
    fitting = [axis for axis, size in enumerate(tensor.shape) if size is None or size in sizes]
    if state.axis < 0 or not fitting:
        return RowState(lost_by=tensor.op)
    return state._replace(axis=state.axis if state.axis in fitting else fitting[0])


def _branch(tensor, _, predicate, *states):
    if tensor.shape.rank == 0:
        lost = next((state.lost_by for state in (predicate, *states) if state.lost_by), None)
        # With several outputs, this may be another one than the one that rows lead to.
        is_alone = len(tensor.op.outputs) == 1 and any(state.axis is not None for state in states)
        return RowState(lost_by=lost or (tensor.op if is_alone else None))
    if predicate.lost_by and any(state.axis is not None for state in states):
        return RowState(coupled_by=predicate.lost_by)
    return side_by_side(tensor.op, tensor.shape.rank, *states)


def _same(tensor, _, values):
    return values


def _stack(tensor, sizes, values):
    return _placed(tensor, values, sizes)


def _one_of_list(tensor, _, values):
    if values.axis == 0:
        return RowState(lost_by=tensor.op)
    return values if values.axis is None else values._replace(axis=values.axis - 1)


def _put_into_list(tensor, _, values, *more):
    item = more[-1]
    item = item if item.axis is None else item._replace(axis=item.axis + 1)
    return side_by_side(tensor.op, None, values, item)


def _scatter_into_list(tensor, _, values, more, places):
    return side_by_side(tensor.op, None, values, more)


def _join_list(tensor, _, values):
    return values if not values.axis else values._replace(axis=values.axis - 1)


CALLS = {
    **dict.fromkeys((*_LOOPS, "PartitionedCall", "StatefulPartitionedCall"), _call),
    **dict.fromkeys(_BRANCHES, _branch),
    **dict.fromkeys(("TensorListSetItem", "TensorListPushBack"), _put_into_list),
    "TensorListFromTensor": _same,
    "TensorListStack": _stack,
    "TensorListGetItem": _one_of_list,
    "TensorListScatterIntoExistingList": _scatter_into_list,
    "TensorListConcatV2": _join_list,
}
