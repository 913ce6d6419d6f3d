"""How the learning rate changes over a run."""

import dataclasses

from tfdist.options.checks import check_fields
from tfdist.options.fields import documented, option
from tfdist.process.errors import UsageError

SCHEDULES = ("constant", "cosine", "step")


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleOptions:
    """The schedule of a learning rate that is given as a number: a linear warm-up, then one of `SCHEDULES`.

    "constant" keeps the rate. "cosine" falls along half a cosine from the end of the warm-up to the end of the run
    (Loshchilov and Hutter 2017, arXiv:1608.03983). "step" multiplies it by a factor at some epochs (Goyal et al. 2017,
    arXiv:1706.02677); these count from the beginning of the run.

    Example:
        ```python
        import tfdist

        cosine = tfdist.ScheduleOptions(kind="cosine", warmup_epochs=5)
        config = tfdist.RunConfig(optimizer="sgd", learning_rate=0.1, epochs=90, schedule=cosine)
        ```

    Attributes:
        step_epochs: For "step": the epochs, or fractions of one, at which the rate falls, in ascending order.
        step_factor: For "step": what the rate is multiplied by at each of them.
        final_rate: For "cosine": the rate at the end, for the base batch as the learning rate itself.
    """

    kind: str = option(
        "constant",
        flag="schedule",
        choices=SCHEDULES,
        help="How the learning rate changes after the warm-up: not at all; along half a cosine to 0 at the end of the "
        "run; or in steps, by default to a tenth at the epochs 30, 60 and 80.",
    )
    warmup_epochs: float = option(
        0, help="Epochs, or a fraction of one, in which the learning rate rises from 0.", least=0
    )
    step_epochs: tuple[float, ...] = (30, 60, 80)
    step_factor: float = 0.1
    final_rate: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self, also={"step_epochs": "a tuple of numbers"})
        epochs = self.step_epochs
        if not epochs or epochs[0] <= 0 or list(epochs) != sorted(set(epochs)):
            raise UsageError(f"step_epochs is {epochs!r}. Use numbers above 0 in ascending order, each once.")
        for name, value in (("step_factor", self.step_factor), ("final_rate", self.final_rate)):
            if value < 0:
                raise UsageError(f"{name} is {value!r}. Use a number from 0.")

    def without_effect(self, epochs: float) -> list[str]:
        """Returns a line for each option that changes nothing.

        Args:
            epochs: the length of the run.
        """
        lines, default = [], ScheduleOptions()
        for name, kind in (("step_epochs", "step"), ("step_factor", "step"), ("final_rate", "cosine")):
            if self.kind != kind and getattr(self, name) != getattr(default, name):
                lines.append(
                    f"{name} is {getattr(self, name)!r}, but it has no effect with schedule {self.kind!r}. Use "
                    f"schedule {kind!r}, or leave it out."
                )
        if self.warmup_epochs > epochs:
            lines.append(
                f"warmup_epochs is {self.warmup_epochs:g}, but the run has {text_of(epochs)}, so the learning rate "
                "never reaches its value. Use a shorter warm-up, or a longer run."
            )
        if self.kind == "step" and self.step_epochs[0] >= epochs:
            lines.append(
                f"schedule is 'step', but the run has {text_of(epochs)}, and the learning rate falls first at epoch "
                f"{self.step_epochs[0]:g}. Give step_epochs within the run, or a longer run."
            )
        return lines


def text_of(epochs: float) -> str:
    """Returns a number of epochs as text: "1 epoch", "0.0667 epochs"."""
    return f"{epochs:.3g} epoch{'s' * (epochs != 1)}"
