"""Provides Keras' `fit`, `evaluate` and `predict`, exact on any number of replicas."""

from tfdist.training.by_hand import open_run
from tfdist.training.loop import evaluate, fit
from tfdist.training.predict import predict

__all__ = ["evaluate", "fit", "open_run", "predict"]
