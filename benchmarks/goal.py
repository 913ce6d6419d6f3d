"""Defines a goal: one line of what is promised, and whether it is met."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Goal:
    """A figure that is promised, with its bound.

    Attributes:
        report: the folder of the report below `benchmarks/results`.
        text: the name of the figure.
        figure: a function report → the figure, or None if a contender that it needs was not measured.
        least, most: the bound of the figure; one of them is given.
    """

    report: str
    text: str
    figure: Callable[[dict], float | None]
    least: float | None = None
    most: float | None = None

    def is_met(self, value):
        """Returns whether a figure meets the goal; one that was not measured does."""
        if value is None:
            return True
        return value >= self.least if self.most is None else value <= self.most

    def line(self, value):
        """Returns the line that reports a figure."""
        bound = f"at least {self.least:.3g}" if self.most is None else f"at most {self.most:.3g}"
        if value is None:
            return f"-        {self.report}: {self.text}: not measured (goal: {bound})"
        verdict = "met    " if self.is_met(value) else "NOT MET"
        return f"{verdict}  {self.report}: {self.text}: {value:.3g} (goal: {bound})"
