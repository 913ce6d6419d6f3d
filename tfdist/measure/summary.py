"""Summarizes the samples of one figure; plain arithmetic."""

import dataclasses
import math
import statistics

# Makes the median absolute deviation of normal noise its standard deviation.
MAD_TO_SIGMA = 1.4826


@dataclasses.dataclass(frozen=True)
class Summary:
    """The statistics of some samples of one figure.

    Attributes:
        median, mean: the median and the mean of the samples.
        error: the standard error of the mean.
        jitter: 1.4826 × the median absolute deviation from the median.
        samples: the number of samples.
    """

    median: float
    mean: float
    error: float
    jitter: float
    samples: int


def summarize(samples):
    """Returns the `Summary` of at least one sample."""
    median = statistics.median(samples)
    count = len(samples)
    return Summary(
        median=median,
        mean=statistics.fmean(samples),
        error=statistics.stdev(samples) / math.sqrt(count) if count > 1 else 0.0,
        jitter=MAD_TO_SIGMA * statistics.median(abs(sample - median) for sample in samples),
        samples=count,
    )
