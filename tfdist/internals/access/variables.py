"""Finds the variables that can be reached from models, optimizers and callbacks, and what each of them is for."""

import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfdist.internals.access import tpu

_PARTS = (
    keras.layers.Layer,
    keras.metrics.Metric,
    keras.optimizers.Optimizer,
    keras.optimizers.schedules.LearningRateSchedule,
    keras.losses.Loss,
    keras.callbacks.Callback,
    keras.random.SeedGenerator,
    tf.Module,
)
# Attributes of Keras' objects that lead to graphs, strategies, functions and lists of what is reached anyway.
_SKIPPED = {
    "_call_context_args",
    "_call_signature",
    "_compile_config",
    "_compiled_trainable_state",
    "_distribute_strategy",
    "_distributed_dataset",
    "_eval_epoch_iterator",
    "_inbound_nodes",
    "_model",
    "_nodes",
    "_operations",
    "_outbound_nodes",
    "_saved_model_arg_spec",
    "_saved_model_inputs_spec",
    "_tfdist_kept",
    "_tracker",
    "_trainable_variables_indices",
    "model",
    "params",
    "predict_function",
    "test_function",
    "train_function",
    "validation_data",
}
# Plain objects of these packages hold no variables of a user.
_FOREIGN = {*sys.stdlib_module_names, "absl", "h5py", "keras", "numpy", "pandas", "scipy", "tensorflow", "tfdist"}
_PER_REPLICA = "_tfdist_per_replica"
# Objects with a state that is no variable, and the phrase that names them.
_UNSAVABLE = (
    (np.random.Generator | np.random.RandomState, "a NumPy random generator"),
    (tf.lookup.experimental.MutableHashTable, "a lookup table"),
    (tf.lookup.experimental.DenseHashTable, "a lookup table"),
)


class Reached(NamedTuple):
    """What was reached from some objects, in one order in every process that has made them alike.

    Attributes:
        variables: name → `keras.Variable` or `tf.Variable`; the name is made of attributes and keys.
        metrics: name → `keras.metrics.Metric`; their variables are not among `variables`.
        optimizers: name → `keras.optimizers.Optimizer`.
        seeds: the variables of seed generators, which are among `variables`.
        unsavable: name → a phrase, for objects whose state is no variable.
    """

    variables: dict[str, Any]
    metrics: dict[str, Any]
    optimizers: dict[str, Any]
    seeds: list[Any]
    unsavable: dict[str, str]


def reached_from(roots, known=()):
    """Finds all that can be reached from some objects.

    Args:
        roots: name → object.
        known: variables and objects that are left out, with all that only they lead to.

    Returns:
        A `Reached`.
    """
    reached = Reached({}, {}, {}, [], {})
    # The objects stay alive here, so that no other object gets the id of one.
    seen = {identity(item): item for item in known}
    for name, root in roots.items():
        _visit(root, name, reached, seen)
    return reached


def identity(item):
    """Returns a number for an object, the same for a `keras.Variable` and for the `tf.Variable` in it."""
    if isinstance(item, keras.Variable):
        return id(item) if item._value is None else id(item._value)
    return id(item)


def _visit(root, name, reached, seen):
    waiting = [(root, name)]
    while waiting:
        item, name = waiting.pop()
        if item is None or isinstance(item, str | bytes | int | float | complex | np.ndarray | np.generic | type):
            continue
        if identity(item) in seen:
            continue
        seen[identity(item)] = item
        if isinstance(item, keras.Variable | tf.Variable):
            reached.variables[name] = item
        elif isinstance(item, keras.metrics.Metric):
            reached.metrics[name] = item
            seen.update({identity(variable): variable for variable in item.variables})
        else:
            if isinstance(item, keras.optimizers.Optimizer):
                reached.optimizers[name] = item
            elif isinstance(item, keras.random.SeedGenerator):
                reached.seeds.append(item.state)
            if phrase := next((phrase for kind, phrase in _UNSAVABLE if isinstance(item, kind)), None):
                reached.unsavable[name] = phrase
            waiting += reversed(list(_parts(item, name)))


def _parts(item, name):
    """Yields (part, name) of what an object holds."""
    if isinstance(item, Mapping):
        yield from ((part, f"{name}[{key!r}]") for key, part in item.items())
    elif isinstance(item, list | tuple):
        yield from ((part, f"{name}[{place}]") for place, part in enumerate(item))
    elif isinstance(item, _PARTS) or _is_of_a_user(item):
        # Keras' own lists first: their variables have names of their own, whatever the attributes are called.
        for variable in _own_variables(item):
            yield variable, f"{name}.{variable.path}" if isinstance(variable, keras.Variable) else name
        for attribute, part in vars(item).items():
            if attribute not in _SKIPPED:
                yield part, f"{name}.{attribute}"


def _own_variables(item):
    return item.variables if isinstance(item, keras.optimizers.Optimizer) else []


def _is_of_a_user(item):
    package = type(item).__module__.partition(".")[0]
    return hasattr(item, "__dict__") and package not in _FOREIGN and not callable(getattr(item, "__wrapped__", None))


def mark_per_replica(variable):
    """Marks a variable as one whose value each replica keeps for itself."""
    setattr(variable, _PER_REPLICA, True)
    inner = getattr(variable, "_value", None)
    if isinstance(inner, tf.Variable):
        setattr(inner, _PER_REPLICA, True)


def is_per_replica(variable):
    """Returns whether each replica keeps a value of its own: the user has said so, or it is made to be summed."""
    value = tf_variable(variable)
    if getattr(variable, _PER_REPLICA, False) or getattr(value, _PER_REPLICA, False):
        return True
    return getattr(value, "synchronization", None) == tf.VariableSynchronization.ON_READ


def is_distributed(variable):
    """Returns whether a variable has a part for each replica."""
    return isinstance(tf_variable(variable), tf.distribute.DistributedValues)


def tf_variable(variable):
    """Returns the `tf.Variable` of a `keras.Variable`, or the given one."""
    return variable.value if isinstance(variable, keras.Variable) else variable


def on_this_replica(variable):
    """Returns the `tf.Variable` of the replica whose step is traced; elsewhere that of all replicas."""
    value, context = tf_variable(variable), tf.distribute.get_replica_context()
    # Outside of any strategy there is a context too: that of TensorFlow's own strategy for no strategy.
    in_replica = tf.distribute.has_strategy() and context is not None
    if not in_replica or not isinstance(value, tf.distribute.DistributedValues):
        return value
    return value._get() if tpu.program_graph() is None else tpu.part_of_core(value)


def name_of(variable):
    """Returns a variable's name for messages."""
    return variable.path if isinstance(variable, keras.Variable) else variable.name.partition(":")[0]
