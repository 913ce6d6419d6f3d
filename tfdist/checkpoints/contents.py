"""Finds what a checkpoint of a run must hold: every variable that can be reached from what is trained."""

import re
from typing import Any, NamedTuple

import numpy as np

from tfdist.internals.access import models
from tfdist.internals.access.variables import is_per_replica, name_of, reached_from


class Contents(NamedTuple):
    """What a checkpoint of a run holds.

    Attributes:
        variables: name → variable: the weights, the state of random layers, the optimizer, then `others`.
        others: the names of those that are reached in another way, such as a second optimizer's.
        per_replica: name → variable of which each replica has a value of its own.
        metrics: name → metric that the loop does not reset by itself.
        optimizers: name → optimizer.
        unsavable: name → a phrase, for what no checkpoint can hold.
    """

    variables: dict[str, Any]
    others: list[str]
    per_replica: dict[str, Any]
    metrics: dict[str, Any]
    optimizers: dict[str, Any]
    unsavable: dict[str, str]


def contents_of(trained):
    """Returns the `Contents` for a compiled, built `keras.Model` or the parts of a hand-written loop."""
    main = [*trained.variables, *models.optimizer_variables(trained)]
    reached = reached_from(roots_of(trained), known=[*main, *trained.metrics, *models.metric_variables(trained)])
    per_replica = {name_of(variable): variable for variable in main if is_per_replica(variable)}
    others, unsavable = {}, dict(reached.unsavable)
    for name, variable in reached.variables.items():
        if is_per_replica(variable):
            per_replica[name] = variable
        elif dtype_name(variable) == "string":
            unsavable[name] = "a variable of strings"
        else:
            others[name] = variable
    # Numbered, because two variables of a loop may have the same path.
    variables = {f"{place}: {name_of(variable)}": variable for place, variable in enumerate(main)}
    optimizers = reached_from(roots_of(trained)).optimizers
    return Contents(variables | others, list(others), per_replica, reached.metrics, optimizers, unsavable)


def roots_of(trained):
    """Returns name → the objects from which all that is trained can be reached."""
    return getattr(trained, "parts", {"model": trained})


def variables_of(trained):
    """Returns the variables that a run must keep, in order: weights, random state, optimizer, and all others.

    Unlike `model.weights`, this also holds the seed generators. It holds no metrics, because each replica has its own;
    they are in `Saved.arrays`.
    """
    return list(contents_of(trained).variables.values())


def describe(name, variable):
    """Returns what a manifest states about a variable."""
    path = re.sub(r"^\d+: ", "", name)
    return {"path": path, "shape": list(variable.shape), "dtype": dtype_name(variable)}


def dtype_name(variable):
    """Returns the name of a variable's type."""
    return variable.dtype if isinstance(variable.dtype, str) else variable.dtype.name


def assign(variable, array):
    """Assigns an array of a checkpoint to a variable."""
    # A view, because NumPy forgets the names of types such as bfloat16.
    variable.assign(array.view(np.dtype(dtype_name(variable))))


def built_for(contents):
    """Returns name → the places in `contents.variables` for which each built optimizer has its state."""
    places = {id(variable): place for place, variable in enumerate(contents.variables.values())}
    found = {name: models.trained_by(optimizer) for name, optimizer in contents.optimizers.items() if optimizer.built}
    return {
        name: [places[id(variable)] for variable in variables]
        for name, variables in found.items()
        if all(id(variable) in places for variable in variables)
    }


def build_optimizers(trained, built):
    """Builds the optimizers that a checkpoint has states of, and that a run makes only in its first step.

    Args:
        trained: what is trained.
        built: what `built_for` returned when the checkpoint was written.
    """
    contents = contents_of(trained)
    variables = list(contents.variables.values())
    for name, optimizer in contents.optimizers.items():
        if not optimizer.built and name in built and max(built[name], default=-1) < len(variables):
            with trained.distribute_strategy.scope():
                optimizer.build([variables[place] for place in built[name]])
