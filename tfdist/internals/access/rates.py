"""Reads the learning rate of an optimizer, whatever computes it."""

import numpy as np


def current_learning_rate(optimizer):
    """Returns the learning rate of an optimizer's next update as a number; None where it has none, or several."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    rate = getattr(optimizer, "learning_rate", None)
    if rate is None or np.size(rate := np.asarray(rate)) != 1:
        return None
    # As it was given, and not as float32 holds it.
    return float(f"{rate.item():.7g}")
