"""Reads the learning rate of an optimizer, whatever computes it."""

import numpy as np


def current_learning_rate(optimizer):
    """Returns the learning rate of an optimizer's next update as a number; None where it has none."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    rate = getattr(optimizer, "learning_rate", None)
    # As it was given, and not as float32 holds it.
    return None if rate is None else float(f"{float(np.asarray(rate)):.7g}")
