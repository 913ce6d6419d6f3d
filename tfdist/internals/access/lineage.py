"""What kind of a scalar a replica has computed from its rows, read from the graph that is being traced."""

import contextvars
import os
import re
from typing import ClassVar

import numpy as np
import tensorflow as tf

from tfdist.internals.access.replica import held
from tfdist.internals.access.row_paths import RowPaths, is_unseen
from tfdist.process.errors import is_user_file

_LINEAGE: contextvars.ContextVar = contextvars.ContextVar("lineage of this replica's tensors", default=None)
# Their result is a multiple of their first input.
_LINEAR = frozenset({"Identity", "Cast", "Neg", "Reshape", "Squeeze", "StopGradient", "CheckNumerics", "EnsureShape"})
_SUMS = frozenset({"AddV2", "Add", "AddN", "Sub"})
_PRODUCTS = frozenset({"Mul", "MulNoNan"})
_QUOTIENTS = frozenset({"RealDiv", "DivNoNan", "Div"})
_NO_MULTIPLE = frozenset({"Sqrt", "Rsqrt", "Log", "Log1p", "Exp", "Square", "Pow", "Max", "Min", "Prod"})

MEAN, SUM, ALIKE, COUPLED, UNKNOWN = "mean", "sum", "alike", "coupled", "unknown"
UNSURE = COUPLED, UNKNOWN


def lineage_is(lineage):
    """Sets the `Lineage` of the replica that is being traced, while the context is entered in replica context."""
    return held(_LINEAGE, lineage)


def current_lineage():
    """Returns the `Lineage` of the replica that is being traced, or None outside the users' own steps."""
    return _LINEAGE.get()


def as_mean(value, rows, who=None):
    """Returns a scalar that counts by this replica's rows, from one whose terms may be sums over them.

    Args:
        value: a scalar computed from this replica's rows; outside the users' own code it is returned as it is.
        rows: the `Rows` of this replica.
        who: None, or who does what with the value: the first words of the line about what is not known to be exact.
    """
    lineage = _LINEAGE.get()
    if lineage is None:
        return value
    terms = [(value, 1)] if lineage.has_rows(value) else lineage.terms(value)
    for term, _ in terms if who else ():
        lineage.say_doubt(who, term)

    def counted(term):
        is_sum = not lineage.has_rows(term) and lineage.kind(term) == SUM
        return tf.math.divide_no_nan(term, rows.share(term.dtype)) if is_sum else term

    if terms[0][0] is value:
        return counted(value)
    return tf.add_n([factor * counted(term) for term, factor in terms])


def say_doubts(who, values):
    """Logs what of nested values is not known to be exact, as `Lineage.say_doubt` does."""
    lineage = _LINEAGE.get()
    for each in tf.nest.flatten(values) if lineage else ():
        if isinstance(each, tf.Tensor):
            lineage.say_doubt(who, each)


_COMBINES = "combines rows of the batch, or chooses some"
_DOUBTS = {
    COUPLED: "which is neither a mean nor a sum over rows, such as the root or the quotient of means",
    UNKNOWN: "whose operations do not show whether it is a mean over the rows of the batch, so it counts as one",
}


def described(operation):
    """Returns the name of an operation without what tells it from its like on other replicas, and the user's line."""
    name = re.sub(r"^((while|replica_\d+)/)+|_\d+$", "", operation.name)
    lines = [frame for frame in operation.traceback or () if is_user_file(frame.filename)]
    where = f" ({os.path.basename(lines[-1].filename)}, line {lines[-1].lineno})" if lines else ""
    return f"{name!r}{where}"


class Lineage(RowPaths):
    """What the tensors of one replica's step depend on, and what kind of scalars of its rows they are.

    Args:
        batch, counts: as for `Dependence`.
        say: a function (line) that logs a line once.
    """

    # By the type of an operation: a function (lineage, *inputs) that returns the kind of its result.
    _kinds: ClassVar[dict] = {}

    def __init__(self, batch=None, counts=(), say=None):
        super().__init__(batch, counts)
        self._say = say
        self._said = set()

    def say_doubt(self, who, tensor):
        """Logs a line about a tensor that is not known to be exact from the parts of the replicas.

        Without a graph nothing is known of it.

        Args:
            who: who does what with the tensor: the first words of the line.
            tensor: a scalar, or one value a row.
        """
        if not tf.is_symbolic_tensor(tensor):
            return
        while tensor.op.type in ("Identity", "Cast"):
            tensor = tensor.op.inputs[0]
        cause, doubt = self._doubt(tensor)
        if doubt and cause not in self._said:
            self._said.add(cause)
            self._say(f"{who} {described(tensor.op)}, {doubt}")

    def _doubt(self, tensor):
        """Returns (the name of what is not known to be exact, the rest of the line about it or None)."""
        if operation := self.coupled_by(tensor):
            does = "may combine rows of the batch, which cannot be seen" if is_unseen(operation) else _COMBINES
            return operation.name, (
                f"for which {described(operation)} {does}: each replica does so "
                "with its own rows. Take the rows of all replicas from tfdist.gather_rows and sums over them from "
                "tfdist.global_sum, or compute the loss by tfdist.global_loss."
            )
        kind = MEAN if self.has_rows(tensor) else self.kind(tensor)
        doubt = _DOUBTS.get(kind)
        return tensor.name, doubt and (
            f"{doubt}: each replica computes it from its own rows. If it is no such mean, compute it by "
            "tfdist.global_loss from the rows of all replicas."
        )

    def kind(self, tensor):
        """Returns how the parts of a scalar over the replicas' rows make the scalar over all rows.

        Returns:
            MEAN: by the mean of the parts, weighted by their rows. SUM: by the sum of the parts. ALIKE: each part is
            the whole. COUPLED: it is neither, such as the root of a mean. UNKNOWN: it cannot be read from the graph.
        """
        if self._eager:
            return UNKNOWN
        if not self.leading_to(tensor) & {"rows", "counts", "draws"}:
            return ALIKE
        find = self._kinds.get(tensor.op.type)
        if find is None:
            return COUPLED if tensor.op.type in _NO_MULTIPLE else UNKNOWN
        return find(self, *tensor.op.inputs)

    def is_weight_alike(self, weight):
        """Returns whether a weight is the same on all replicas, and no number of rows."""
        value = tf.get_static_value(weight) if isinstance(weight, tf.Tensor) else weight
        if isinstance(value, int | float | np.generic | np.ndarray):
            return np.ndim(value) == 0 and value not in self._first
        return not isinstance(value, list | tuple) and weight.shape.rank == 0 and self.is_alike(weight)

    def _of_reduction(self, which, values, *_):
        if not self.has_rows(values):
            return self.kind(values)
        return MEAN if which == MEAN else self._kind_of_sum(values)

    def _of_linear(self, value, *_):
        return UNKNOWN if self.has_rows(value) else self.kind(value)

    def _of_terms(self, *terms):
        kinds = set(map(self.kind, terms))
        # The shares of the rows add up to one, so what is alike on all replicas may be weighted by them.
        kinds -= {ALIKE} if MEAN in kinds else set()
        if len(kinds) == 1:
            return kinds.pop()
        return COUPLED if COUPLED in kinds or UNKNOWN not in kinds else UNKNOWN

    def _of_product(self, *factors):
        one, other = map(self.kind, factors)
        if MEAN in (one, other) and self._is_count(factors[one == MEAN], of=None):
            return SUM
        if ALIKE in (one, other):
            return one if other == ALIKE else other
        return UNKNOWN if UNKNOWN in (one, other) else COUPLED

    def terms(self, tensor):
        """Returns the terms of a scalar, each with its factor, whose kinds are known where that of the whole is not.

        Returns:
            A list of (tensor, factor), such that the scalar is the sum of the products. A factor is a number or a
            constant tensor.
        """
        if self._eager or self.kind(tensor) not in UNSURE:
            return [(tensor, 1)]
        operation, inputs = tensor.op, list(tensor.op.inputs)
        if operation.type not in _SUMS | _PRODUCTS | {"Neg", "Identity"}:
            return [(tensor, 1)]
        if operation.type in _PRODUCTS:
            factors = [each for each in inputs if each.op.type == "Const"]
            others = [each for each in inputs if each.op.type != "Const"]
            if len(factors) != 1:
                return [(tensor, 1)]
            return [(term, factor * factors[0]) for term, factor in self.terms(others[0])]
        signs = {"Neg": (-1,), "Sub": (1, -1)}.get(operation.type, (1,) * len(inputs))
        parts = [self.terms(each) for each in inputs]
        return [(term, sign * factor) for part, sign in zip(parts, signs, strict=True) for term, factor in part]

    def _kind_of_sum(self, rows):
        """Returns the kind of the sum of rows, each of which may be divided by their number."""
        operation, inputs = rows.op, list(rows.op.inputs)
        if operation.type in _QUOTIENTS and self._is_count(inputs[1], of=rows):
            return MEAN
        if operation.type in _LINEAR:
            return self._kind_of_sum(inputs[0])
        if operation.type in _PRODUCTS | _QUOTIENTS:
            rowwise = [each for each in inputs if self.has_rows(each)]
            return self._kind_of_sum(rowwise[0]) if rowwise else SUM
        return SUM

    def _of_quotient(self, above, below):
        kind = self.kind(above)
        if self._is_count(below, of=self._summed(above)):
            return MEAN if kind == SUM else UNKNOWN
        return kind if self.kind(below) == ALIKE else COUPLED

    def _is_count(self, tensor, of):
        """Returns whether a tensor counts rows; where their number is fixed, it is the one of the rows `of`."""
        if "counts" in (found := self.leading_to(tensor)) and "rows" not in found:
            return True
        if of is None or found or not of.shape.rank or not of.shape.is_fully_defined():
            return False
        value, size = tf.get_static_value(tensor), of.shape[self.state_of(of).axis or 0]
        return value is not None and np.size(value) == 1 and value in (size, of.shape.num_elements())

    def _summed(self, tensor):
        """Returns the rows whose sum a scalar is a multiple of, or None."""
        while tensor.op.type != "Sum":
            if tensor.op.type not in _LINEAR | _PRODUCTS | _QUOTIENTS:
                return None
            left = [each for each in tensor.op.inputs if self.kind(each) != ALIKE]
            if len(left) != 1:
                return None
            tensor = left[0]
        return tensor.op.inputs[0]

    def has_rows(self, tensor):
        """Returns whether a tensor may have an entry for each row.

        Where the rows are not known from the graph, its first dimension varies, or is the batch's.
        """
        state = self.state_of(tensor)
        if tensor.shape.rank and (state.lost_by or state.axis is not None):
            return state.axis is not None
        return tensor.shape.rank is None or (tensor.shape.rank > 0 and tensor.shape[0] in {None, *self._first})


Lineage._kinds |= {
    "Mean": lambda lineage, *inputs: lineage._of_reduction(MEAN, *inputs),
    "Sum": lambda lineage, *inputs: lineage._of_reduction(SUM, *inputs),
    "L2Loss": lambda lineage, values: SUM if lineage.has_rows(values) else COUPLED,
    "Pack": Lineage._of_terms,
    **dict.fromkeys(_LINEAR, Lineage._of_linear),
    **dict.fromkeys(_SUMS, Lineage._of_terms),
    **dict.fromkeys(_PRODUCTS, Lineage._of_product),
    **dict.fromkeys(_QUOTIENTS, Lineage._of_quotient),
}
