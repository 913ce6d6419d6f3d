"""Checks of the arguments before a batch is read."""

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


def limit(number, most, name):
    """Returns the smaller of a number (or None) and Keras' limit for trial runs (None: no limit); warns at a limit."""
    if not most or (number and number <= most):
        return number
    warn_user(f"keras.config limits the {name} to {most}.")
    return most
