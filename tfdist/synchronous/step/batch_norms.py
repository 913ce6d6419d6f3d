"""Which rows BatchNormalization takes its statistics over, while a model trains."""

import contextlib

from tfdist.internals.access import models
from tfdist.strategy import choose as strategies


def batch_norms_as_wanted(model, options):
    """Returns a context in which the model's BatchNormalization layers follow `options.sync_batchnorm`."""
    strategy = model.distribute_strategy
    if strategy.num_replicas_in_sync == 1 and not strategies.needs_static_shapes(strategy):
        return contextlib.nullcontext()
    return models.batch_norms_synchronized(model, options.sync_batchnorm)
