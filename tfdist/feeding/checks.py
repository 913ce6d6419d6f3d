"""What is refused of the data, before a batch is read."""

import warnings

from tfdist.process.errors import UsageError


def check_data(x, name):
    """Refuses None for data.

    Raises:
        ValueError: says what may be given.
    """
    if x is None:
        raise UsageError(
            f"{name} is None. Give arrays, a tf.data.Dataset, a PyDataset, a generator or a tfdist Source."
        )


def limit(number, most, name):
    """Gives the smaller of a number (or None) and Keras' limit for trial runs (None: no limit); says when it limits."""
    if not most or (number and number <= most):
        return number
    warnings.warn(f"keras.config limits the {name} to {most}.", stacklevel=2)
    return most
