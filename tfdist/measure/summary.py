"""What some samples of one figure say; plain arithmetic."""

import dataclasses
import math
import statistics

# Makes the median absolute deviation of normal noise its standard deviation.
MAD_TO_SIGMA = 1.4826


@dataclasses.dataclass(frozen=True)
class Summary:
    """What some samples of one figure say.

    Attributes:
        median, mean: of the samples.
        error: the standard error of the mean.
        jitter: 1.4826 × the median absolute deviation from the median.
        samples: how many.
    """

    median: float
    mean: float
    error: float
    jitter: float
    samples: int


def summarise(samples):
    """Gives the `Summary` of at least one sample."""
    median = statistics.median(samples)
    count = len(samples)
    return Summary(
        median=median,
        mean=statistics.fmean(samples),
        error=statistics.stdev(samples) / math.sqrt(count) if count > 1 else 0.0,
        jitter=MAD_TO_SIGMA * statistics.median(abs(sample - median) for sample in samples),
        samples=count,
    )
