"""Describes objects of Keras by JSON types that are the same in every process: names and numbers, no addresses."""

import functools
import hashlib
import re
from collections.abc import Mapping

import keras
import numpy as np

from tfdist.internals.access import models

# Names and shapes that Keras makes up, and the seeds of random state, which a checkpoint holds.
_LEFT_OUT = ("module", "registered_name", "build_config", "build_input_shape", "compile_config", "seed", "synchronized")
_FUNCTIONS = ("function", "__lambda__")


def describe_model(model):
    """Describes the layers of a model, and what connects them.

    Args:
        model: a built `keras.Model`. Without a `get_config` of its own, its layers describe a subclass.

    Returns:
        Nested dicts of JSON types.
    """
    about = {"class": type(model).__name__, "config": describe_config(model)}
    # One layer without a config takes that of the whole away.
    if about["config"] is None or not models.is_graph(model):
        layers = models.layers(model)
        about["layers"] = {f"{place} {_name(layer.name)}": describe(layer) for place, layer in enumerate(layers)}
    return about


def describe_config(item, *, without=()):
    """Describes the config of an object of Keras; None where its class returns none.

    Args:
        item: an object with `get_config`.
        without: names to leave out.
    """
    try:
        config = item.get_config()
    # A class of the user's may raise anything here.
    except Exception:
        return None
    return {name: value for name, value in describe(config).items() if name not in without}


def describe(value):
    """Describes a value of a config."""
    if value is None or isinstance(value, bool | int | float | str):
        return _name(value) if isinstance(value, str) else value
    if isinstance(value, Mapping):
        return _describe_mapping(value)
    if isinstance(value, list | tuple):
        return _describe_list(value)
    if isinstance(value, bytes | np.ndarray | np.generic | keras.Variable):
        return _describe_array(value)
    if hasattr(value, "get_config") and not isinstance(value, type):
        more = describe(models.loss_arguments(value))
        return {"class": type(value).__name__, **(describe_config(value) or {}), **more}
    return _describe_function(value)


def _describe_mapping(value):
    if value.get("class_name") in _FUNCTIONS:
        # Of a lambda, its bytes, which have the file's path and line numbers in them.
        return "lambda" if value["class_name"] == "__lambda__" else describe(value.get("config"))
    config = value.get("config")
    if "class_name" in value and isinstance(config, Mapping):
        more = {name: item for name, item in value.items() if name not in ("class_name", "config")}
        return {"class": str(value["class_name"]), **_describe_mapping(config), **_describe_mapping(more)}
    return {str(name): describe(item) for name, item in value.items() if name not in _LEFT_OUT}


def _describe_list(values):
    if values and all(isinstance(value, Mapping) and "class_name" in value for value in values):
        # By name, so that a message can name what differs.
        described = [_describe_mapping(value) for value in values]
        return {f"{place} {each.get('name', each.get('class'))}": each for place, each in enumerate(described)}
    return [describe(value) for value in values]


def _describe_array(value):
    if isinstance(value, np.generic):
        return describe(value.item())
    data = value if isinstance(value, bytes) else np.ascontiguousarray(np.asarray(value)).tobytes()
    return f"{len(data)} bytes {hashlib.sha256(data).hexdigest()[:12]}"


def _describe_function(value):
    while isinstance(value, functools.partial):
        value = value.func
    return getattr(value, "__qualname__", type(value).__name__).rpartition("<locals>.")[2].replace("<lambda>", "lambda")


def _name(text):
    # Where the first model of a process has a "dense", the next has a "dense_1".
    return re.sub(r"_\d+(?![^/_])", "", text)
