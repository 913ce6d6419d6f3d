"""Where rows of the batch are combined on the way to a tensor, read from the graph that is being traced."""

import tensorflow as tf

from tfdist.internals.access import row_places, row_states
from tfdist.internals.access.dependence import Dependence, behind, name_of, noted_way
from tfdist.internals.access.known_operations import is_known
from tfdist.internals.access.row_calls import CALLS, state_behind_call
from tfdist.internals.access.row_states import RowState, data_inputs, joined, side_by_side

_RULES = row_states.RULES | row_places.RULES


def is_unseen(operation):
    """Returns whether what an operation makes of rows cannot be seen, as with a Python function."""
    return not (operation.type in _RULES or operation.type in CALLS or is_known(operation.type))


class RowPaths(Dependence):
    """Finds the operation that combines rows on the way to a tensor of one replica's step.

    What layers do is exact by other means, so the way goes on from their inputs. The arguments are those of
    `Dependence`.
    """

    def __init__(self, batch=None, counts=()):
        super().__init__(batch, counts)
        self._states = {}
        # The values of ragged rows are not those of the batch.
        self._is_dense = all(isinstance(each, tf.Tensor) for each in tf.nest.flatten(batch) if each is not None)

    def coupled_by(self, tensor):
        """Returns the operation that combines rows, or chooses some of them for a mean; None if there is none."""
        return self.state_of(tensor).coupled_by

    def state_of(self, tensor):
        """Returns what became of the rows of the batch in a tensor, a `RowState`: that of none without a graph."""
        if self._eager or not self._is_dense or not tf.is_symbolic_tensor(tensor):
            return RowState()
        left, entered = [tensor], set()
        while left:
            name = name_of(left[-1])
            sources = [] if name in entered else self._sources(left[-1])
            entered.add(name)
            if missing := [each for each in sources if name_of(each) not in self._states]:
                left += missing
            else:
                self._note_state(left.pop(), name)
        return self._states[name_of(tensor)]

    def _sources(self, tensor):
        """Returns the tensors in a graph whose states make that of a tensor."""
        if self.end_of_way(tensor):
            return []
        sources = noted_way(tensor)
        if sources is None and tensor.op.type == "IdentityN":
            sources = [tensor.op.inputs[tensor.value_index]]
        if sources is None:
            sources = behind(tensor) if tensor.op.type == "Placeholder" else data_inputs(tensor.op)
        return [each for each in sources if tf.is_symbolic_tensor(each)]

    def _note_state(self, tensor, name):
        if name not in self._states:
            self._states[name] = self._state(tensor)

    def _state(self, tensor):
        if origin := self.end_of_way(tensor):
            return RowState(axis=0) if origin == {"rows"} and tensor.shape.rank != 0 else RowState()
        sources = self._sources(tensor)
        states = [self._states.get(name_of(each), RowState()) for each in sources]
        coupled = next((state for state in states if state.coupled_by), None)
        if coupled or all(state == RowState() for state in states):
            return coupled or RowState()
        if [*map(name_of, sources)] == [*map(name_of, data_inputs(tensor.op))]:
            return self._behind_operation(tensor, states)
        return side_by_side(tensor.op, tensor.shape.rank, *states)

    def _behind_operation(self, tensor, states):
        if tensor.op.type in CALLS:
            return state_behind_call(tensor, states, self._first)
        if is_unseen(tensor.op) and any(state.axis is not None for state in states):
            return RowState(coupled_by=tensor.op)
        return _RULES.get(tensor.op.type, joined)(tensor.op, *states)
