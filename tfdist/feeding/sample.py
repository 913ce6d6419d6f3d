"""Some rows to try a model's losses and metrics on, without taking them from the training."""

import functools

import keras
import numpy as np
import tensorflow as tf

from tfdist.data.delivery.share import is_absent_spec

# Enough for pairs of rows with one label, and few enough for a large model.
_ROWS = 32
# Where the data have no rows that may be looked at.
_MADE_UP = 8


def sample_batch(feed):
    """Returns some of the first rows, nested tensors (B, ...) with B of at least 3.

    Where looking at rows would change which rows come later, as in a shuffled `tf.data.Dataset`, they are made up.

    Args:
        feed: a `Feed`.
    """
    batch = feed.data.peek(min(_ROWS, feed.global_batch or _ROWS)) if feed.data.peek else None
    if batch is None:
        generator = np.random.default_rng(0)
        return tf.nest.map_structure(functools.partial(_made_up, generator), feed.spec)
    flat = [_as_tensor(part) for part in keras.tree.flatten(batch)]
    sizes = [int(part.shape[0]) for part in flat if isinstance(part, tf.Tensor) and part.shape.rank]
    places = np.arange(max(3, min([_ROWS, *sizes]))) % min([_ROWS, *sizes])
    rows = [tf.gather(part, places) if isinstance(part, tf.Tensor) and part.shape.rank else part for part in flat]
    return keras.tree.pack_sequence_as(batch, rows)


def _as_tensor(part):
    if part is None or isinstance(part, tf.Tensor | tf.RaggedTensor | tf.SparseTensor):
        return part
    array = np.asarray(part)
    return tf.convert_to_tensor(array.astype(keras.config.floatx()) if array.dtype.kind == "f" else array)


def _made_up(generator, spec):
    """Returns rows of a spec: normal numbers, and of integers zeros and ones, because they may number classes."""
    if spec is None or is_absent_spec(spec) or not isinstance(spec, tf.TensorSpec):
        return None
    shape = [_MADE_UP, *(1 if size is None else size for size in spec.shape[1:])]
    if spec.dtype == tf.string:
        return tf.fill(shape, "")
    if spec.dtype.is_floating:
        return tf.cast(generator.normal(size=shape), spec.dtype)
    return tf.cast(generator.integers(0, 2, size=shape), spec.dtype)
