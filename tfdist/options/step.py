"""How a step of training is computed, and how many run in one call."""

import dataclasses

from tfdist.options.checks import check_choice, is_whole
from tfdist.process.errors import UsageError

AUTO = "auto"
EXCHANGES = (AUTO, "all_reduce", "factors")
COMPRESSIONS = ("none", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepOptions:
    """Options of the steps of one call of `fit`; none of them stays on the model.

    Attributes:
        exchange: how replicas exchange gradients: "all_reduce"; those of dense layers by their "factors"; "auto" for
            the faster of them.
        compression: "bfloat16" or "float16", to which gradients are rounded for the exchange; "none".
        jit_compile: True or False; "auto" for True where that was measured to help; None for the value of `compile`.
        steps_per_execution: a number of steps; "auto" to measure it; None for the value of `compile`.
        sync_batchnorm: whether BatchNormalization takes its statistics over the rows of all replicas; otherwise each
            replica takes them over its own rows.
    """

    exchange: str = AUTO
    compression: str = "none"
    jit_compile: bool | str | None = None
    steps_per_execution: int | str | None = None
    sync_batchnorm: bool = True

    def __post_init__(self):
        check_choice(self, "exchange", EXCHANGES)
        check_choice(self, "compression", COMPRESSIONS)
        if not (self.jit_compile is None or self.jit_compile == AUTO or isinstance(self.jit_compile, bool)):
            raise UsageError(
                f"jit_compile is {self.jit_compile!r}. Use True, False, 'auto', or None for the value of compile."
            )
        steps = self.steps_per_execution
        if steps not in (None, AUTO) and not (is_whole(steps) and steps >= 1):
            raise UsageError(
                f"steps_per_execution is {steps!r}. Use a whole number from 1, 'auto', or None for the value of "
                "compile, or 'auto' where compile has none."
            )
        if not isinstance(self.sync_batchnorm, bool):
            raise UsageError(f"sync_batchnorm is {self.sync_batchnorm!r}. Use True or False.")
