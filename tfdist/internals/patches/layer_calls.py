"""Replaces calls of Keras' layers, to record their outputs or what leads to them, or to turn their randomness off."""

import contextlib
import functools
import inspect

import keras
import numpy as np
import tensorflow as tf
from keras.src.utils import naming

from tfdist.internals.access.dependence import note_way
from tfdist.internals.access.models import layers
from tfdist.internals.access.replica import is_on_trial, swapped

_call = keras.layers.Layer.__call__
# The attributes that hold how much randomness one of Keras' layers adds.
_AMOUNTS = ("rate", "stddev", "dropout", "recurrent_dropout")


def count_names_anew():
    """Restarts Keras' numbering of names, so that two models made by one function have the same names."""
    naming.reset_uids()


def silence_random_layers(model):
    """Makes layers that own a random seed work as in inference; returns the names of those that this changes."""
    owners = [layer for layer in layers(model) if _owns_seed(layer) and _knows_training(layer)]
    for layer in owners:
        layer.call = _as_in_inference(layer.call)
    return [layer.name for layer in owners if _is_random(layer)]


def _owns_seed(layer):
    return any(isinstance(value, keras.random.SeedGenerator) for value in vars(layer).values())


def _knows_training(layer):
    return "training" in inspect.signature(layer.call).parameters


def _is_random(layer):
    amounts = [getattr(layer, name) for name in _AMOUNTS if hasattr(layer, name)]
    return not amounts or any(amounts)


def _as_in_inference(call):
    signature = inspect.signature(call)

    def call_in_inference(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        bound.arguments["training"] = False
        return call(*bound.args, **bound.kwargs)

    return call_in_inference


def ways_through_layers_are_noted():
    """Notes in a graph which inputs of a layer led to its outputs; enter it around `strategy.run`."""
    call = keras.layers.Layer.__call__

    @functools.wraps(call)
    def noting(self, *arguments, **options):
        outputs = call(self, *arguments, **options)
        note_way(keras.tree.flatten(outputs), keras.tree.flatten((arguments, options)))
        return outputs

    return swapped((keras.layers.Layer, "__call__", noting))


@contextlib.contextmanager
def recorded():
    """Yields a list of what each layer returns while the context is entered, without tensors of a traced graph.

    Yields:
        A list that fills with (layer's path, replica, array), in order for each replica.
    """
    calls = []

    def call(self, *args, **kwargs):
        outputs = _call(self, *args, **kwargs)
        if is_on_trial():
            return outputs
        context = tf.distribute.get_replica_context()
        for value in tf.nest.flatten(outputs):
            if tf.is_tensor(value) and hasattr(value, "numpy") and isinstance(value, tf.Tensor) and value.shape.rank:
                calls.append((self.path or self.name, int(context.replica_id_in_sync_group), value.numpy()))
        return outputs

    with swapped((keras.layers.Layer, "__call__", call)):
        yield calls


def joined(calls, rows_of_replicas):
    """Joins the outputs of all replicas.

    Args:
        calls: the list that `recorded` yielded.
        rows_of_replicas: the number of rows of each replica; one without rows worked on a row that does not count.

    Returns:
        A list of (layer's path, array) with the rows of all replicas. The array is empty for outputs that are not made
        of rows; the list is empty where the replicas did not call the same layers.
    """
    parts = [[call for call in calls if call[1] == replica] for replica in range(len(rows_of_replicas))]
    if len({len(part) for part in parts}) != 1:
        return []
    result = []
    for together in zip(*parts, strict=True):
        arrays = [array for _, _, array in together]
        per_row = [len(array) / max(1, rows) for array, rows in zip(arrays, rows_of_replicas, strict=True)]
        if len(set(per_row)) == 1 and per_row[0] == int(per_row[0]):
            kept = [array[: rows * int(per_row[0])] for array, rows in zip(arrays, rows_of_replicas, strict=True)]
            result.append((together[0][0], np.concatenate(kept)))
        else:
            result.append((together[0][0], np.zeros([0])))
    return result
