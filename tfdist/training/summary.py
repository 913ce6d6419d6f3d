"""The summary that ends every run."""

import os
import platform

import keras
import numpy as np
import tensorflow as tf

import tfdist
from tfdist.checkpoints import checkpoint
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
        "versions": versions(),
        "weights_sha256": checkpoint.weights_sha256(model),
    }


def versions():
    """Returns the versions of the packages that may affect a result."""
    return {
        "tfdist": tfdist.__version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
