"""An old report against a new one: what became slower, beyond what noise can do; plain arithmetic."""

import dataclasses
import math

from tfdist.bench.config import OURS, BenchConfig
from tfdist.process.errors import UsageError

# Both must be passed: so many standard errors, so that noise is none; and so large a part, so that it matters.
ERRORS = 3.0
SMALLEST = 0.03


@dataclasses.dataclass(frozen=True)
class Change:
    """How one line of a report changed.

    Attributes:
        contender, workers, replicas: which one.
        old, new: mean examples a second.
        noise: the least fall that counts, as a part of `old`.
    """

    contender: str
    workers: int
    replicas: int
    old: float
    new: float
    noise: float

    @property
    def part(self):
        """By which part of the old rate the new one is higher; below 0 where it fell."""
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
    """Refuses reports of different things.

    Args:
        old, new: reports as dicts.

    Raises:
        ValueError: says what differs, or that one is no report.
    """
    for report in (old, new):
        if not isinstance(report, dict) or report.get("format") != 1:
            raise UsageError("--against: the file is no report of tfdist.bench. Give a bench.json.")
    # A report from before a flag was there is of its default.
    before = BenchConfig().measured() | old["measured"]
    for name, value in new["measured"].items():
        if before[name] != value:
            raise UsageError(
                f"--against: the older report is of --{name}={before[name]}, this one of {value}. Measure the same."
            )


def check_lines(found):
    """Refuses changes among which none is of tfdist's own.

    Raises:
        ValueError: the reports share no line of tfdist's.
    """
    if not any(change.contender == OURS for change in found):
        raise UsageError(
            f"--against: the two reports share no line of {OURS}. Measure the same --scale and --replicas."
        )


def changes(old, new):
    """Gives the `Change`s of the lines that both reports have."""
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
    """Gives those of tfdist's own lines that are slower; the others' say how the machine changed."""
    return [change for change in found if change.contender == OURS and change.is_slower]


def _key(result):
    return result["contender"], result["workers"], result["replicas"]
