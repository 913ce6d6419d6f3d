"""Checks that the numbers of classes in labels are those of a model, which XLA and GPUs do not: they return NaN.

TensorFlow's own kernels for CPUs check them, so nothing is done there.
"""

import keras
import numpy as np
import tensorflow as tf

from tfdist.process.errors import UsageError

_SPARSE = ("sparse_categorical_crossentropy", "SparseCategoricalCrossentropy")


def has_class_numbers(model):
    """Returns whether a loss of the model takes labels that are numbers of classes."""
    return any(map(_takes_class_numbers, keras.tree.flatten(model.loss)))


def check_rows(model, batch, outputs):
    """Checks the labels of rows that are in memory.

    Args:
        model: a compiled, built `keras.Model`.
        batch: nested tensors of x, (x, y) or (x, y, sample_weight).
        outputs: nested specs of the model's outputs.

    Raises:
        ValueError: a label is not the number of a class; the message has both.
    """
    _, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    for labels, classes, ignored in _pairs(model, y, outputs):
        values = np.asarray(labels)
        wrong = (values < 0) | (values >= classes)
        wrong &= values != ignored if ignored is not None else True
        if wrong.any():
            place = int(np.argwhere(wrong)[0][0])
            raise UsageError(
                f"y: the label of row {place} is {values[wrong][0]}, but the model has {classes} classes, 0 to "
                f"{classes - 1}. Correct the label, or give the last layer more units."
            )


def with_labels_checked(model, function):
    """Returns a function that also checks the labels of the rows of each step, outside of what XLA compiles.

    Args:
        model: a compiled `keras.Model`.
        function: (x, y, sample_weight) → (gradients, loss, y_pred).
    """

    def checked(x, y, sample_weight):
        gradients, loss, y_pred = function(x, y, sample_weight)
        for labels, classes, ignored in _pairs(model, y, y_pred):
            values = tf.cast(labels, tf.int64)
            wrong = (values < 0) | (values >= classes)
            wrong = wrong if ignored is None else wrong & (values != ignored)
            text = f"{LABEL_WORDS} of a model with {classes} classes, 0 to {classes - 1}:"
            tf.debugging.Assert(~tf.reduce_any(wrong), [text, tf.boolean_mask(values, wrong)], summarize=3)
        return gradients, loss, y_pred

    return checked


# In an error of TensorFlow's, which `read_error` recognizes.
LABEL_WORDS = "tfdist: labels that are not numbers of the classes"


def read_error(error):
    """Returns the `UsageError` behind an error of TensorFlow's that `with_labels_checked` caused; None for others."""
    lines = [line for line in str(error.message).splitlines() if LABEL_WORDS in line]
    if not lines:
        return None
    text = lines[0][lines[0].index("labels that") :].replace("'", "").replace("[", "").replace("]", "").rstrip(' "')
    return UsageError(f"y: {text}. Correct the labels, or give the last layer more units.")


def _pairs(model, y, outputs):
    """Yields (labels, the number of classes, the label that is ignored or None) for each loss of class numbers."""
    for loss, labels, output in _losses(model, y, outputs):
        is_dense = isinstance(labels, tf.Tensor | np.ndarray) and output.shape.rank not in (None, 0)
        if _takes_class_numbers(loss) and is_dense and output.shape[-1] is not None:
            yield labels, int(output.shape[-1]), getattr(loss, "ignore_class", None)


def _losses(model, y, outputs):
    """Yields (loss, labels, output) where they belong together without doubt."""
    if isinstance(outputs, list | tuple) and isinstance(y, dict) and len(model.output_names) == len(outputs):
        outputs = dict(zip(model.output_names, outputs, strict=True))
    if isinstance(model.loss, dict) and isinstance(y, dict) and isinstance(outputs, dict):
        names = model.loss.keys() & y.keys() & outputs.keys()
        yield from ((model.loss[name], y[name], outputs[name]) for name in names)
        return
    parts, made = keras.tree.flatten(y), keras.tree.flatten(outputs)
    losses = keras.tree.flatten(model.loss)
    losses = losses * len(made) if len(losses) == 1 else losses
    if len(losses) == len(parts) == len(made) and not isinstance(model.loss, dict):
        yield from zip(losses, parts, made, strict=True)


def _takes_class_numbers(loss):
    if type(loss) is keras.losses.SparseCategoricalCrossentropy:
        return getattr(loss, "axis", -1) == -1
    return loss is keras.losses.sparse_categorical_crossentropy or (isinstance(loss, str) and loss in _SPARSE)
