"""Makes what a layer assigns to its own state on one replica count for the rows of all replicas.

A replica that assigns a value computed from its rows writes what one device would write after all rows, and at once, so
that whoever reads the state next reads that value. What does not depend on rows is assigned as it is.
"""

import contextlib
import contextvars

import tensorflow as tf
from tensorflow.python.distribute import tpu_values, values_util

from tfdist.internals.access.collectives import are_same_on_all, sum_over_replicas
from tfdist.internals.access.dependence import Dependence, is_in_inner_graph, note_sums
from tfdist.internals.access.replica import held, is_compiled_by_xla, swapped
from tfdist.internals.access.variables import identity, on_this_replica, tf_variable

_KEEPER: contextvars.ContextVar = contextvars.ContextVar("keeper of layer states on this replica", default=None)
_METHODS = ("assign", "assign_add", "assign_sub")
# (owner, name there, method): what assigns to distributed variables, the second on TPUs.
_WRITES = [
    *((values_util, f"on_write_{method}", method) for method in _METHODS),
    *((tpu_values.TPUDistributedVariable, method, method) for method in _METHODS),
]
_all_reduce = tf.distribute.ReplicaContext.all_reduce
_all_gather = tf.distribute.ReplicaContext.all_gather

# How the values of the replicas become one.
MEAN, SUM, FIRST, ANY = (
    "averaged by rows",
    "summed by what each adds",
    "taken from the first replica with rows",
    "true if any is",
)
_DECLARED = {tf.VariableAggregation.SUM: SUM, tf.VariableAggregation.ONLY_FIRST_REPLICA: FIRST}


def rule_of(variable):
    """Returns how the values that replicas assign to a variable become one: MEAN, SUM, FIRST or ANY.

    The variable's `aggregation` decides. Without one, integers count what is added, and other numbers are means.
    """
    value = tf_variable(variable)
    if value.aggregation in _DECLARED:
        return _DECLARED[value.aggregation]
    if value.dtype == tf.bool:
        return ANY
    return SUM if value.dtype.is_integer and value.aggregation == tf.VariableAggregation.NONE else MEAN


class Keeper:
    """Combines over the replicas what one replica assigns to the states of layers.

    Args:
        variables: the states, each a `keras.Variable` or `tf.Variable`.
        rows: a function () → the `Rows` of this replica, called only if a state is combined.
        note: a function (variable, rule, at_end=False) called for each state that is combined; `at_end` where a branch
            or XLA assigned it.
    """

    def __init__(self, variables, rows, note):
        self._watched = {identity(variable): variable for variable in variables}
        self._rows = rows
        self._note = note
        self._dependence = Dependence()
        self._later = {}
        self._before = {}

    def begin(self):
        """Reads the states of which only the increase counts, because branches may assign them."""
        for key, variable in self._watched.items():
            if rule_of(variable) == SUM:
                self._before[key] = tf.convert_to_tensor(on_this_replica(variable))

    def assign(self, method, original, variable, value, **options):
        """Calls `method`, such as "assign_add", of this replica's part of a distributed `tf.Variable`.

        Args:
            method: its name.
            original: TensorFlow's own function (variable, value, **options), for variables that are not states.
            variable, value, **options: the method's arguments.
        """
        watched = self._watched.get(identity(variable))
        if watched is None:
            return original(variable, value, **options)
        write, value = getattr(on_this_replica(variable), method), tf.cast(tf.convert_to_tensor(value), variable.dtype)
        # Not as `aggregation` says, because what is alike is what one device would assign.
        if value.dtype == tf.string or self._dependence.is_alike(value):
            return write(value, **options)
        if is_compiled_by_xla() or is_in_inner_graph():
            self._later[identity(variable)] = watched
            return write(value, **options)
        rule = rule_of(watched)
        if tf.executing_eagerly() and are_same_on_all([value]):
            return write(value, **options)
        self._note(watched, rule)
        counts_anew = method == "assign" and rule == SUM
        before = tf.convert_to_tensor(on_this_replica(variable)) if counts_anew else tf.zeros_like(value)
        return write(self._combined(rule, value, before), **options)

    def end(self):
        """Combines what branches, loops and functions compiled by XLA have assigned, which can hold no collective."""
        for key, variable in self._later.items():
            rule, mine = rule_of(variable), on_this_replica(variable)
            self._note(variable, rule, at_end=True)
            mine.assign(self._combined(rule, tf.convert_to_tensor(mine), self._before.get(key)))

    def _combined(self, rule, value, before):
        rows, value = self._rows(), tf.stop_gradient(value)
        if rule == MEAN:
            return _sum(tf.math.multiply_no_nan(value, rows.share(value.dtype)))
        if rule == SUM:
            added = value - before
            return before + _sum(tf.where(rows.mine > 0, added, tf.zeros_like(added)))
        if rule == ANY:
            return _sum(tf.cast(value, tf.int32) * rows.present(tf.int32)) > 0
        # Not the first of all: one without rows has worked on a row that does not count.
        first = (rows.mine > 0) & (rows.first == 0)
        return _sum(tf.where(first, value, tf.zeros_like(value)))


def _sum(value):
    return sum_over_replicas([value])[0]


@contextlib.contextmanager
def kept_by(keeper):
    """Makes the `Keeper` combine what this replica assigns while the context is entered in replica context."""
    keeper.begin()
    with held(_KEEPER, keeper):
        yield
    keeper.end()


def states_are_combined(find_keeper=_KEEPER.get, **lock):
    """Makes the assignments of a replica go through its `Keeper`; enter it around `strategy.run`.

    Args:
        find_keeper: a function () → the `Keeper` of the replica that is being traced, or None.
        **lock: as for `swapped`.
    """

    def writing(method, original):
        def write(var, value, use_locking=False, name=None, read_value=True):
            options = {"use_locking": use_locking, "name": name, "read_value": read_value}
            # Outside `strategy.run` there is a context too: that of TensorFlow's own strategy for no strategy.
            in_replica = tf.distribute.has_strategy() and tf.distribute.get_replica_context()
            keeper = find_keeper() if in_replica else None
            if keeper is None:
                return original(var, value, **options)
            return keeper.assign(method, original, var, value, **options)

        return write

    return swapped(
        *_written_by(writing),
        (tf.distribute.ReplicaContext, "all_reduce", _marked(_all_reduce)),
        (tf.distribute.ReplicaContext, "all_gather", _marked(_all_gather)),
        **lock,
    )


def assignments_are(assign):
    """Makes a function (method, variable, value) take the assignments to distributed `tf.Variable`s meanwhile."""

    def writing(method, _):
        return lambda var, value, use_locking=False, name=None, read_value=True: assign(method, var, value)

    return swapped(*_written_by(writing))


def _written_by(writing):
    """Yields the replacements for `swapped`; `writing` is a function (method, original) → its replacement."""
    return ((owner, name, writing(method, getattr(owner, name))) for owner, name, method in _WRITES)


def _marked(collective):
    """Returns a collective of TensorFlow's whose results are known to be alike."""

    def call(self, *arguments, **options):
        result = collective(self, *arguments, **options)
        result = tf.nest.map_structure(tf.identity, result)
        note_sums(tf.nest.flatten(result))
        return result

    return call
