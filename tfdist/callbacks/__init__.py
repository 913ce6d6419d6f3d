"""Callbacks that a user gives to `fit`, and their base class with tfdist's hooks; the loop's own stay with the loop."""

from tfdist.callbacks.base import Callback
from tfdist.callbacks.desync import DesyncCheck
from tfdist.callbacks.prediction_sheet import PredictionSheet
from tfdist.callbacks.profile import Profile
from tfdist.callbacks.report import Report
from tfdist.callbacks.screen import EpochLines, ProgressLines
from tfdist.callbacks.throughput import Throughput
from tfdist.callbacks.writers import MetricsFile, TensorBoardScalars

__all__ = [
    "Callback",
    "DesyncCheck",
    "EpochLines",
    "MetricsFile",
    "PredictionSheet",
    "Profile",
    "ProgressLines",
    "Report",
    "TensorBoardScalars",
    "Throughput",
]
