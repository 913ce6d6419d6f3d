"""Checks of the arguments before a batch is read."""

import keras

from tfdist.internals.access import models
from tfdist.process.errors import UsageError
from tfdist.process.user_warnings import warn_user


def check_data(x, name):
    """Checks that the data are not None.

    Raises:
        ValueError: they are None; the message lists what may be given.
    """
    if x is None:
        raise UsageError(
            f"{name} is None. Give arrays, a tf.data.Dataset, a PyDataset, a generator or a tfdist Source."
        )


def check_lengths(x, y, sample_weight, name):
    """Checks that arrays have the same number of rows.

    Args:
        x, y, sample_weight: nested arrays or None; data of other kinds are left alone.
        name: the argument's name, "x" or "validation_data".

    Raises:
        ValueError: they differ; the message has the number of rows of each.
    """
    rows = {}
    for argument, given in {"x": x, "y": y, "sample_weight": sample_weight}.items():
        for path, array in keras.tree.flatten_with_path(given):
            shape = tuple(getattr(array, "shape", None) or ())
            if shape and shape[0] is not None:
                rows[argument + "".join(f"[{key!r}]" for key in path)] = int(shape[0])
    if len(set(rows.values())) > 1:
        where = "" if name == "x" else f"{name}: "
        told = ", ".join(f"{argument} has {count} rows" for argument, count in rows.items())
        raise UsageError(f"{where}{told}. Give as many rows of each, because row i of all belongs together.")


def check_targets(model, spec, method, name):
    """Checks that batches have targets if Keras compares a model's outputs with them.

    Args:
        model: a compiled `keras.Model`.
        spec: nested specs of a batch, with None for what is absent.
        method: "train_step" or "test_step".
        name: the argument's name, for the message.

    Raises:
        ValueError: there are none; the message says what to give.
    """
    is_own = any(models.has_own(model, own) for own in (method, "compute_loss"))
    if is_own or all(loss is None for loss in keras.tree.flatten(model.loss)):
        return
    _, y, _ = keras.utils.unpack_x_y_sample_weight(spec)
    if y is None:
        cure = "Give validation_data=(x, y)." if name == "validation_data" else "Give y, or batches of (x, y)."
        raise UsageError(f"{name} has no targets, but the loss that the model is compiled with needs them. {cure}")


def limit(number, most, name):
    """Returns the smaller of a number (or None) and Keras' limit for trial runs (None: no limit); warns at a limit."""
    if not most or (number and number <= most):
        return number
    warn_user(f"keras.config limits the {name} to {most}.")
    return most
