"""The measurements of all workers combined: medians, shares, the slowest worker, and advice."""

import dataclasses
import math
import statistics

# The standard deviation of a normal distribution, in median absolute deviations.
_DEVIATIONS = 1.4826
_SLOW_RATIO = 1.2
# A difference below this part of the step is noise of clocks and schedulers.
_SLOW_SHARE = 0.1
_INPUT_SHARE = 0.2
_BUSY_SHARE = 0.5
# Savings below this many seconds a step are not worth a warning.
_SHORT_SECONDS = 1e-3


@dataclasses.dataclass(frozen=True)
class Timing:
    """The times of a worker's steps in an epoch or a run, in seconds per step; NaN where unknown.

    Attributes:
        step_seconds: the median over the calls, each of which counts with the mean of its steps.
        step_spread: 1.4826 times their median absolute deviation.
        own_seconds: the median time from the arrival of the input until the worker's gradients are ready.
        input_seconds: the mean time of waiting for input.
        mean_seconds: the mean time of whole steps.
        bytes_reduced: the mean bytes that each of its replicas contributes to the reduction.
    """

    step_seconds: float = math.nan
    step_spread: float = math.nan
    own_seconds: float = math.nan
    input_seconds: float = math.nan
    mean_seconds: float = math.nan
    bytes_reduced: float = math.nan

    @property
    def input_share(self):
        """The part of the time in which the worker waited for input."""
        return self.input_seconds / self.mean_seconds if self.mean_seconds else math.nan

    @property
    def late_seconds(self):
        """The seconds from asking for input until the gradients are ready: the other workers wait for this."""
        return self.input_seconds + self.own_seconds

    def to_dict(self):
        """Returns the known numbers, by their names in files."""
        names = ("step_seconds", "step_spread", "own_seconds", "input_share")
        return {name: digits(value) for name in names if not math.isnan(value := getattr(self, name))}


def timing_of(calls):
    """Returns the `Timing` of a list of calls: (steps, seconds, those waiting for input, those of own work, bytes)."""
    if not calls:
        return Timing()
    steps = sum(call[0] for call in calls)
    step_seconds, spread = median_and_spread([seconds / count for count, seconds, *_ in calls])
    own_seconds = statistics.median(own / count for count, _, _, own, _ in calls)
    seconds, waiting, _, sent = (sum(column) for column in list(zip(*calls, strict=True))[1:])
    return Timing(step_seconds, spread, own_seconds, waiting / steps, seconds / steps, sent / steps)


def over_epochs(timings):
    """Combines the `Timing`s of a worker's epochs: returns the medians of medians, and the means of means."""
    known = [timing for timing in timings if not math.isnan(timing.mean_seconds)]
    if not known:
        return Timing()
    columns = [list(column) for column in zip(*map(dataclasses.astuple, known), strict=True)]
    return Timing(*map(statistics.median, columns[:3]), *map(statistics.fmean, columns[3:]))


def median_and_spread(values):
    """Returns the median, and 1.4826 times the median absolute deviation: a standard deviation robust to outliers."""
    middle = statistics.median(values)
    return middle, _DEVIATIONS * statistics.median(abs(value - middle) for value in values)


def slowest(timings):
    """Finds the worker that the others wait for longest.

    Args:
        timings: one `Timing` per worker.

    Returns:
        (worker, its `late_seconds` as a multiple of the median of the others), or None for a single worker, or if the
        `late_seconds` of some worker are unknown.
    """
    late = [timing.late_seconds for timing in timings]
    if len(late) < 2 or any(map(math.isnan, late)):
        return None
    worker = max(range(len(late)), key=late.__getitem__)
    others = statistics.median(late[:worker] + late[worker + 1 :])
    return worker, late[worker] / others if others else math.inf


def scalars(timings):
    """Returns an epoch's known numbers for the logs, each combined over all workers.

    Waiting and spread are those of the worker with the largest values, because the others wait for it.
    """
    found = {
        "step_seconds": _over_known(statistics.median, [timing.step_seconds for timing in timings]),
        "step_spread": _over_known(max, [timing.step_spread for timing in timings]),
        "input_share": _over_known(max, [timing.input_share for timing in timings]),
        "bytes_reduced_per_step": _over_known(max, [timing.bytes_reduced for timing in timings]),
    }
    if found_slowest := slowest(timings):
        found["slowest_worker"] = float(found_slowest[0])
    return {name: digits(value) for name, value in found.items() if not math.isnan(value)}


def _over_known(function, values):
    known = [value for value in values if not math.isnan(value)]
    return function(known) if known else math.nan


def digits(value):
    """Rounds to four significant digits, because further ones are noise."""
    return float(f"{value:.4g}") if abs(value) < 1e4 else float(round(value))


def per_worker(timings):
    """Returns one dict per worker, of the known numbers."""
    return [{"worker": worker, **timing.to_dict()} for worker, timing in enumerate(timings)]


def describe(timings):
    """Returns the line that ends a run, such as `2 workers: 12.3 ms a step (± 0.4), 3 % waiting for input`."""
    numbers = scalars(timings)
    if "step_seconds" not in numbers:
        return ""
    count = f"{len(timings)} workers: " if len(timings) > 1 else ""
    parts = [f"{1e3 * numbers['step_seconds']:.3g} ms a step (± {1e3 * numbers['step_spread']:.2g})"]
    if "input_share" in numbers:
        parts.append(f"{100 * numbers['input_share']:.0f} % waiting for input")
    if sent := numbers.get("bytes_reduced_per_step"):
        parts.append(f"{_bytes(sent)} a replica to reduce")
    found = slowest(timings)
    if found and found[1] > _SLOW_RATIO:
        worker, ratio = found
        parts.append(f"slowest: worker {worker}, {ratio:.2g} times {_the_others(timings)}")
    return count + ", ".join(parts)


def _the_others(timings):
    return "the other" if len(timings) == 2 else "the median of the others"


def _bytes(number):
    for unit in ("B", "kB", "MB"):
        if number < 1e3:
            return f"{number:.3g} {unit}"
        number /= 1e3
    return f"{number:.3g} GB"


def advice(timings, *, replicas, sparse=(), global_batch=None):
    """Returns advice to the user: kind of problem → one line.

    Args:
        timings: one `Timing` per worker.
        replicas: number of replicas over all workers.
        sparse: paths of variables whose gradients are `tf.IndexedSlices`.
        global_batch: rows of a step over all replicas, where it is known.
    """
    lines = {
        "slowest": _slow_worker(timings),
        "input": _slow_input(timings),
        "exchange": _mostly_exchange(timings, replicas, global_batch),
        "sparse": _sparse(sparse) if replicas > 1 else "",
    }
    return {kind: line for kind, line in lines.items() if line}


def _slow_worker(timings):
    found = slowest(timings)
    if found is None:
        return ""
    worker, ratio = found
    timing = timings[worker]
    lag = timing.late_seconds * (1 - 1 / ratio)
    if ratio <= _SLOW_RATIO or lag < max(_SLOW_SHARE * timing.mean_seconds, _SHORT_SECONDS):
        return ""
    return (
        f"worker {worker} is the slowest: its gradients are ready {1e3 * timing.late_seconds:.3g} ms after a step "
        f"begins ({1e3 * timing.input_seconds:.3g} ms of it waiting for input), {ratio:.2g} times as late as "
        f"{_the_others(timings)}, and all wait for it. Check what else runs on its machine, and whether its processor "
        "or storage is slower."
    )


def _slow_input(timings):
    shares = [0.0 if math.isnan(timing.input_share) else timing.input_share for timing in timings]
    worker = max(range(len(shares)), key=shares.__getitem__)
    if shares[worker] <= _INPUT_SHARE or timings[worker].input_seconds < _SHORT_SECONDS:
        return ""
    waiting = f"worker {worker} waits" if len(timings) > 1 else "the training waits"
    return (
        f"{waiting} for input {100 * shares[worker]:.0f} % of the time. Do less for each row, or do it once and keep "
        "it (tf.data's cache, smaller images on the disk), or give the input more processor cores or a faster disk."
    )


def _mostly_exchange(timings, replicas, global_batch):
    """Returns advice if more replicas hardly help: if even the busiest worker works for less than half of a step.

    With a fixed global batch, each replica's part shrinks with the number of replicas, but the exchange of gradients
    does not. Below half, the exchange and its overhead are the larger part, and doubling the replicas saves less than
    a quarter of the step.
    """
    busy = [timing.late_seconds / timing.mean_seconds for timing in timings if timing.mean_seconds > 0]
    if replicas < 2 or not busy or any(map(math.isnan, busy)) or max(busy) >= _BUSY_SHARE:
        return ""
    rows = f" of {global_batch} rows, {global_batch / replicas:.3g} each" if global_batch else ""
    return (
        f"{replicas} replicas share each global batch{rows}, and only {100 * max(busy):.0f} % of a step is work on "
        "them; the rest is exchanging gradients, updating and starting. More replicas hardly help: use a larger global "
        "batch (and a learning rate that fits it), or fewer replicas."
    )


def _sparse(paths):
    if not paths:
        return ""
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return (
        f"the gradient of {paths[0]}{more} is IndexedSlices: every replica receives the rows that each of the others "
        "has touched, so the exchanged bytes grow with the replicas. For a table of few rows, multiply a one-hot "
        "matrix with it instead of looking rows up: that gradient is summed by an all-reduce."
    )
