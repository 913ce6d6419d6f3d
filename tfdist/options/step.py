"""How a step of training is computed, and how many run in one call."""

import dataclasses

from tfdist.options.checks import check_fields
from tfdist.options.fields import documented, option

AUTO = "auto"
EXCHANGES = (AUTO, "all_reduce", "factors")
COMPRESSIONS = ("none", "bfloat16", "float16")
ON_NAN = ("stop", "warn")


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class StepOptions:
    """Options of the steps of a run; none of them stays on the model.

    `jit_compile` and `steps_per_execution` may also be None, for the value of `compile`: the default of `fit`.

    Example:
        ```python
        import tfdist

        config = tfdist.RunConfig(step=tfdist.StepOptions(compression="bfloat16", jit_compile=True))
        ```
    """

    exchange: str = option(
        AUTO,
        choices=EXCHANGES,
        help="How replicas exchange gradients: by an all-reduce; those of dense layers by their factors; auto: the "
        "faster way for each.",
    )
    compression: str = option(
        "none",
        choices=COMPRESSIONS,
        help="The type to which gradients are rounded for the exchange, to halve the bytes.",
    )
    jit_compile: bool | str | None = option(
        AUTO, words=(AUTO,), help="Whether to compile with XLA; auto: where that was measured to help."
    )
    steps_per_execution: int | str | None = option(
        AUTO,
        words=(AUTO,),
        least=1,
        help="Steps in one call of the compiled program; auto: as many as take about half a second. Callbacks for "
        "batches run between calls.",
    )
    sync_batchnorm: bool = option(
        True, help="BatchNormalization over the rows of all replicas; otherwise each replica takes its own rows."
    )

    on_nan: str = option(
        "stop",
        choices=ON_NAN,
        help="If the loss or a weight is NaN or infinite: stop: end with exit code 77 and keep the checkpoints from "
        "before; warn: log it once and go on without saving.",
    )

    def __post_init__(self) -> None:
        check_fields(
            self,
            also={
                "jit_compile": "True, False, 'auto', or None for the value of compile",
                "steps_per_execution": "a whole number from 1, 'auto', or None for the value of compile, or 'auto' "
                "where compile has none",
            },
        )
