"""Where rows of the batch are combined on the way to a tensor, read from the graph that is being traced."""

import tensorflow as tf

from tfdist.internals.access.dependence import Dependence, behind, name_of, noted_way
from tfdist.internals.access.row_states import RowState, data_inputs, side_by_side, state_behind


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
        if self._eager or not self._is_dense or not tf.is_symbolic_tensor(tensor):
            return None
        left, entered = [tensor], set()
        while left:
            name = name_of(left[-1])
            sources = [] if name in entered else self._sources(left[-1])
            entered.add(name)
            if missing := [each for each in sources if name_of(each) not in self._states]:
                left += missing
            else:
                self._note_state(left.pop(), name)
        return self._states[name_of(tensor)].coupled_by

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
            return state_behind(tensor.op, states)
        return side_by_side(tensor.op, tensor.shape.rank, *states)
