"""Copies trained weights into a model, as far as their paths and shapes are the same; says what was not copied."""

import dataclasses
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from tfdist.checkpoints.contents import dtype_name
from tfdist.checkpoints.stored_weights import StoredWeight, open_weights
from tfdist.internals.access.layer_paths import layer_paths, own_variables
from tfdist.process.errors import UsageError

# How many lines of each kind a table has.
_MOST = 12
_Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class MatchedWeights:
    """Which weights of a model were read from a file, and why the others were not.

    `str` returns it as a table.

    Attributes:
        file: the file, or the checkpoint.
        matched: path → shape of each weight that was read.
        other_shape: path → (shape in the file, shape in the model).
        not_in_file: path → shape of each weight that the model alone has.
        not_in_model: path → shape of each weight that the file alone has.
    """

    file: str
    matched: Mapping[str, _Shape]
    other_shape: Mapping[str, tuple[_Shape, _Shape]]
    not_in_file: Mapping[str, _Shape]
    not_in_model: Mapping[str, _Shape]

    def __str__(self) -> str:
        """Returns a line about what matched, and one for each weight that did not."""
        here = [*self.matched.values(), *self.not_in_file.values(), *(shape for _, shape in self.other_shape.values())]
        share = _size(self.matched.values()) / max(_size(here), 1)
        lines = [f"{self.file}: {len(self.matched)} of {len(here)} weights match ({share:.1%} of the numbers)."]
        lines += _first(
            f"  {path}: {there} in the file, {mine} here" for path, (there, mine) in self.other_shape.items()
        )
        lines += _first(f"  {path} {shape}: not in the file" for path, shape in self.not_in_file.items())
        lines += _first(f"  {path} {shape}: in the file, not here" for path, shape in self.not_in_model.items())
        return "\n".join(lines)


def load_matching_weights(model: keras.Model, path: str | os.PathLike[str]) -> MatchedWeights:
    """Copies the weights of a file into a model where path and shape are the same; the others stay as they are.

    The paths are those of the layers' names. Names that Keras made up, such as dense_3, count by their order, and all
    layers of one of the two models may be within a layer of the other, such as a backbone.

    Args:
        model: a built `keras.Model`, in any strategy; with several workers each reads the file.
        path: a `.keras` file, a `.weights.h5` file, or a run's folder: its `model.keras`, else its newest checkpoint.

    Returns:
        The `MatchedWeights`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has no weights, or none that matches.

    Example:
        ```python
        import keras

        import tfdist

        def make_model(classes):
            image = keras.Input((8, 8, 1))
            features = keras.layers.Conv2D(4, 3, name="conv")(image)
            pooled = keras.layers.GlobalAveragePooling2D()(features)
            return keras.Model(image, keras.layers.Dense(classes, name="head")(pooled))

        make_model(10).save("trained.keras")
        print(tfdist.load_matching_weights(make_model(3), "trained.keras"))
        ```
    """
    with open_weights(path) as stored:
        variables, labels = _weights_of(model, numbered=stored.are_numbered)
        here = {path: tuple(variable.shape) for path, variable in variables.items()}
        weights: dict[str, StoredWeight] = {}
        for weight in stored.weights:
            weights.setdefault(weight.path, weight)
        there = {path: weight.shape for path, weight in weights.items()}
        places = best_match(there, here)
        fitting = {mine: other for mine, other in places.items() if here[mine] == there[other]}
        if not fitting:
            own = {labels[mine]: shape for mine, shape in here.items()}
            raise UsageError(
                f"{stored.file}: none of its {len(there)} weights is one of the model: the file has {_some(there)}, "
                f"and the model {_some(own)}. Use the weights of a model with layers of the same names and shapes."
            )
        for mine, other in fitting.items():
            variables[mine].assign(weights[other].read().astype(dtype_name(variables[mine])))
    others = {mine: other for mine, other in places.items() if mine not in fitting}
    return MatchedWeights(
        file=str(stored.file),
        matched={labels[mine]: here[mine] for mine in here if mine in fitting},
        other_shape={labels[mine]: (there[other], here[mine]) for mine, other in others.items()},
        not_in_file={labels[mine]: here[mine] for mine in here if mine not in places},
        not_in_model={other: shape for other, shape in there.items() if other not in places.values()},
    )


def _weights_of(model: keras.Model, *, numbered: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns (path as in the file → variable, path as in the file → path for messages)."""
    variables: dict[str, Any] = {}
    labels: dict[str, str] = {}
    known = {id(variable) for variable in model.weights}
    for path, layer in [("", model), *layer_paths(model)]:
        for number, variable in enumerate(own_variables(layer)):
            if id(variable) in known:
                label = f"{path}/{variable.name}".lstrip("/")
                key = f"{path}/{number}".lstrip("/") if numbered else variable.path
                variables.setdefault(key, variable)
                labels.setdefault(key, label)
    return variables, labels


def best_match(there: Mapping[str, _Shape], here: Mapping[str, _Shape]) -> dict[str, str]:
    """Finds which weight of a file is which of the model.

    Names that Keras made up depend on what the process made before, so they are also compared by their order; and
    layers may be within another layer on one side. What gives the most weights of equal shapes is taken.

    Args:
        there: path → shape of the weights of the file.
        here: the same of the model.

    Returns:
        path of the model → path of the file, for paths that match, whatever their shapes are.
    """
    best: dict[str, str] = {}
    count = 0
    for there_names, here_names in ((_as_they_are(there), _as_they_are(here)), (_renumbered(there), _renumbered(here))):
        for moved in _moved(there_names, here_names):
            found = {mine: moved[name] for mine, name in here_names.items() if name in moved}
            fitting = sum(here[mine] == there[other] for mine, other in found.items())
            if fitting > count:
                best, count = found, fitting
    return best


def _as_they_are(paths: Iterable[str]) -> dict[str, str]:
    return {path: path for path in paths}


def _renumbered(paths: Iterable[str]) -> dict[str, str]:
    """Returns path → the path with the numbers of the layers' names counted anew: dense_7, dense_9 → dense, dense_1."""
    counted: dict[tuple[str, str], list[str]] = {}
    new = {}
    for path in paths:
        *layers, last = path.split("/")
        parent = ""
        for layer in layers:
            base = re.sub(r"_\d+$", "", layer)
            names = counted.setdefault((parent, base), [])
            if layer not in names:
                names.append(layer)
            parent += f"{base}_{names.index(layer)}/"
        new[path] = parent + last
    return new


def _moved(there: Mapping[str, str], here: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Yields new name → path of the file: as it is, then within each layer of the model, then out of each of its."""
    names = {name: path for path, name in there.items()}
    yield names
    for layer in _layers(here.values()):
        yield {layer + name: path for name, path in names.items()}
    for layer in _layers(names):
        yield {name.removeprefix(layer): path for name, path in names.items() if name.startswith(layer)}


def _layers(names: Iterable[str]) -> list[str]:
    """Returns the layers that hold other layers, each with a "/" at the end."""
    parts = [name.split("/")[:-2] for name in names]
    return list(dict.fromkeys("/".join(part[:depth]) + "/" for part in parts for depth in range(1, len(part) + 1)))


def _first(lines: Iterable[str]) -> list[str]:
    shown = list(lines)
    more = [f"  and {len(shown) - _MOST} more"] if len(shown) > _MOST else []
    return shown[:_MOST] + more


def _size(shapes: Iterable[_Shape]) -> int:
    return int(sum(np.prod(shape, dtype=np.int64) for shape in shapes))


def _some(weights: Mapping[str, _Shape]) -> str:
    shown = ", ".join(f"{path} {shape}" for path, shape in list(weights.items())[:3])
    return f"{shown}, …" if len(weights) > 3 else shown
