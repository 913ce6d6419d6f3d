"""Callbacks: the base class with tfdist's hooks, and those that come with tfdist."""

from tfdist.callbacks.base import Callback
from tfdist.callbacks.desync import DesyncCheck
from tfdist.callbacks.profile import Profile
from tfdist.callbacks.report import Report
from tfdist.callbacks.throughput import Throughput
from tfdist.callbacks.writers import EpochLines, MetricsFile

__all__ = ["Callback", "DesyncCheck", "EpochLines", "MetricsFile", "Profile", "Report", "Throughput"]
