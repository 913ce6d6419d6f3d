"""One line of what is promised, and whether it is kept."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Goal:
    """One line of what is promised.

    Attributes:
        report: the folder below `benchmarks/results` that holds what was measured.
        text: what the figure is.
        figure: a function report → the figure, or None where somebody it is about was not measured.
        least, most: what it may be; one of them is given.
    """

    report: str
    text: str
    figure: Callable[[dict], float | None]
    least: float | None = None
    most: float | None = None

    def is_met(self, value):
        """Says whether a figure is as promised; what was not measured is not held against it."""
        if value is None:
            return True
        return value >= self.least if self.most is None else value <= self.most

    def line(self, value):
        """Gives the line that says so."""
        bound = f"at least {self.least:.3g}" if self.most is None else f"at most {self.most:.3g}"
        if value is None:
            return f"-        {self.report}: {self.text}: not measured (goal: {bound})"
        verdict = "met    " if self.is_met(value) else "NOT MET"
        return f"{verdict}  {self.report}: {self.text}: {value:.3g} (goal: {bound})"
