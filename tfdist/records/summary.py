"""The summary that ends every run."""

import os
import platform

from tfdist.checkpoints import checkpoint
from tfdist.process.versions import read_versions
from tfdist.run import rundir


def summarize(model, *, metrics, steps, **measured):
    """Returns the summary of a run as a dict of JSON types.

    Args:
        model: the trained `keras.Model`.
        metrics: name → number: its results.
        steps: the steps done since the run began.
        **measured: what else was measured, such as `examples_per_second`.
    """
    strategy = model.distribute_strategy
    return {
        "metrics": metrics,
        "steps": steps,
        **measured,
        "replicas": strategy.num_replicas_in_sync,
        "strategy": type(strategy).__name__,
        "restarts": rundir.read_restarts(os.environ),
        "versions": read_versions() | {"python": platform.python_version()},
        "weights_sha256": checkpoint.weights_sha256(model),
    }
