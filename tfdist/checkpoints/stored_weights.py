"""Reads the weights of a `.keras` file, a `.weights.h5` file or a run's folder, each with its path and shape."""

import contextlib
import pathlib
import re
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import h5py
import numpy as np

from tfdist.checkpoints import checkpoint
from tfdist.process.errors import MissingFileError, UsageError
from tfdist.run import manifest
from tfdist.run.rundir import RunDir

_GIVE = "Give a .keras file, a .weights.h5 file, or the folder of a run."
# What Keras saves beside the weights of layers.
_NO_LAYERS = ("optimizer", "seed_generator")


class StoredWeight(NamedTuple):
    """A weight in a file.

    Attributes:
        path: the layer's path and, in a file of Keras', the weight's number in it, such as "backbone/conv1/0"; in a
            checkpoint the variable's path, such as "conv1/kernel".
        shape: its shape.
        read: a function () → its array.
    """

    path: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


class StoredWeights(NamedTuple):
    """The weights of a file or a checkpoint.

    Attributes:
        file: the path that is read.
        weights: a list of `StoredWeight`s.
        are_numbered: whether their paths end in numbers.
    """

    file: pathlib.Path
    weights: list[StoredWeight]
    are_numbered: bool


@contextlib.contextmanager
def open_weights(path):
    """Yields the `StoredWeights` of a path, which can be read while the context is entered.

    Args:
        path: a `.keras` file, a `.weights.h5` file, or a run's folder: its `model.keras`, else its newest checkpoint.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is none of these, or it is damaged.
    """
    path = pathlib.Path(path).expanduser()
    if not path.exists():
        raise MissingFileError(f"{path}: there is no such file. {_GIVE}")
    run = RunDir(path)
    if path.is_dir() and not run.model.is_file():
        yield _of_checkpoint(run)
        return
    file = run.model if path.is_dir() else path
    with contextlib.ExitStack() as stack:
        try:
            weights = list(_weights_in(_open(file, stack), []))
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise UsageError(f"{file}: this is no file of weights of Keras 3 ({error}). {_GIVE}") from None
        if not weights:
            raise UsageError(f"{file}: there are no weights of Keras 3 in it. {_GIVE}")
        yield StoredWeights(file, weights, are_numbered=True)


def _open(file, stack):
    if file.suffix == ".keras":
        archive = stack.enter_context(zipfile.ZipFile(file))
        return stack.enter_context(h5py.File(stack.enter_context(archive.open("model.weights.h5")), "r"))
    return stack.enter_context(h5py.File(file, "r"))


def _weights_in(group, names):
    """Yields the weights of a group of HDF5 and of those within, which Keras numbers by class: dense, dense_1, …."""
    for key in sorted((key for key in group if key.removeprefix("_") not in _NO_LAYERS), key=_in_order):
        part = group[key]
        if not isinstance(part, h5py.Group):
            continue
        if key == "vars":
            for number in sorted(part, key=_in_order):
                yield StoredWeight("/".join([*names, number]), tuple(part[number].shape), _reader(part[number]))
        else:
            # A list of layers has a group of its own, without variables and without a name.
            name = part["vars"].attrs.get("name", key) if "vars" in part else None
            yield from _weights_in(part, names if name is None else [*names, name])


def _in_order(key):
    base, number = re.fullmatch(r"(.*?)_?(\d*)", key).groups()
    return base, int(number or 0)


def _reader(stored):
    def read():
        # HDF5 knows no bfloat16: Keras notes it beside the values.
        return np.array(stored, dtype=stored.attrs.get("dtype"))

    return read


def _of_checkpoint(run):
    step, _ = checkpoint.newest_whole(run)
    if step is None:
        raise UsageError(f"{run.path}: the folder has neither a model.keras nor a checkpoint. {_GIVE}")
    folder = run.checkpoint(step)
    content = manifest.read_whole(folder)
    # After the weights come the variables of the optimizer; an earlier tfdist did not note where.
    about = content["variables"][: content.get("of_model")]
    with np.load(folder / checkpoint.VARIABLES) as values:
        arrays = [values[str(place)].view(np.dtype(item["dtype"])) for place, item in enumerate(about)]
    weights = [
        StoredWeight(item["path"], array.shape, lambda array=array: array)
        for item, array in zip(about, arrays, strict=True)
        if not item["path"].endswith("seed_generator_state")
    ]
    return StoredWeights(folder, weights, are_numbered=False)
