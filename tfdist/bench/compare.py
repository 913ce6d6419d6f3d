"""Compares an old report with a new one: what became slower by more than the noise; plain arithmetic."""

import dataclasses
import math

from tfdist.bench.config import OURS, BenchConfig
from tfdist.process.errors import UsageError

# A change must exceed both: this many standard errors, to be no noise, and this fraction, to matter.
ERRORS = 3.0
SMALLEST = 0.03


@dataclasses.dataclass(frozen=True)
class Change:
    """The change of one line of a report.

    Attributes:
        contender, workers, replicas: they identify the line.
        old, new: mean examples per second.
        noise: the smallest decrease that counts, as a fraction of `old`.
    """

    contender: str
    workers: int
    replicas: int
    old: float
    new: float
    noise: float

    @property
    def part(self):
        """The increase of the rate as a fraction of the old one; below 0 if it fell."""
        return self.new / self.old - 1

    @property
    def is_slower(self):
        """Whether it fell by more than the noise."""
        return -self.part > self.noise

    def __str__(self):
        verdict = "SLOWER" if self.is_slower else "faster" if self.part > self.noise else "as before"
        where = f"{self.contender} {self.workers}×{self.replicas}"
        rates = f"{self.old:10.0f} → {self.new:10.0f} examples/s"
        return f"{where:24} {rates}  {self.part:+.1%} (noise {self.noise:.1%})  {verdict}"


def check_same_task(old, new):
    """Refuses reports of different measurements.

    Args:
        old, new: reports as dicts.

    Raises:
        ValueError: the message says what differs, or that one is no report.
    """
    for report in (old, new):
        if not isinstance(report, dict) or report.get("format") != 1:
            raise UsageError("--against: the file is no report of tfdist.bench. Give a bench.json.")
    # A report that is older than a flag was measured with the flag's default.
    before = BenchConfig().measured() | old["measured"]
    for name, value in new["measured"].items():
        if before[name] != value:
            raise UsageError(
                f"--against: the older report is of --{name}={before[name]}, this one of {value}. Use the same value."
            )


def check_lines(found):
    """Refuses changes that include no line of tfdist.

    Raises:
        ValueError: the reports share no line of tfdist.
    """
    if not any(change.contender == OURS for change in found):
        raise UsageError(
            f"--against: the two reports share no line of {OURS}. Measure the same --scale and --replicas."
        )


def changes(old, new):
    """Returns the `Change`s of the lines that both reports have."""
    before = {_key(result): result for result in old["results"] if not result.get("error")}
    found = []
    for result in new["results"]:
        if result.get("error") or _key(result) not in before:
            continue
        was, now = before[_key(result)]["examples_per_second"], result["examples_per_second"]
        error = math.hypot(was["error"], now["error"] * was["mean"] / now["mean"])
        noise = max(SMALLEST, ERRORS * error / was["mean"])
        found.append(Change(*_key(result), old=was["mean"], new=now["mean"], noise=noise))
    return found


def regressions(found):
    """Returns tfdist's lines that are slower; the others only show how the machine changed."""
    return [change for change in found if change.contender == OURS and change.is_slower]


def _key(result):
    return result["contender"], result["workers"], result["replicas"]
