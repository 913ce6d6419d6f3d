"""From which weights a run starts, and which of them it trains."""

import dataclasses
import os
import re

from tfdist.options.checks import check_fields
from tfdist.options.fields import documented, option
from tfdist.options.schedule import text_of
from tfdist.process.errors import UsageError


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class StartOptions:
    """From which weights a run starts, and which layers it trains.

    A pattern is a regular expression that is searched in the path of each layer, such as "backbone/conv1".

    Example:
        ```python
        import tfdist

        start = tfdist.StartOptions(init_from="runs/backbone-1", freeze=("^backbone",), thaw_epoch=3)
        config = tfdist.RunConfig(start=start)
        ```
    """

    init_from: str | os.PathLike[str] | None = option(
        None,
        help="Weights to start from: a .keras file, a .weights.h5 file, or a run's folder. What matches by path and "
        "shape is copied, and the rest is listed. A run that resumes does not read it.",
    )
    freeze: tuple[str, ...] = option(
        (),
        shown="none",
        help="Patterns of layers that are not trained; their BatchNormalization uses its moving statistics.",
    )
    thaw_epoch: int | None = option(
        None,
        least=1,
        help="Epochs after which the frozen layers are trained too. The optimizer has its state for them from the "
        "start, and its count of steps goes on.",
    )
    lora_rank: int | None = option(
        None,
        least=1,
        help="Rank of a low-rank adaptation (LoRA) that is trained in place of the kernels of Dense, EinsumDense and "
        "Embedding layers.",
    )
    lora_layers: tuple[str, ...] = option((), shown="all such layers", help="Patterns of the layers with LoRA.")

    def __post_init__(self) -> None:
        check_fields(self, also={"init_from": "a path"})
        for name in ("freeze", "lora_layers"):
            for pattern in getattr(self, name):
                _check_pattern(name, pattern)
        if self.init_from == "":
            raise UsageError("init_from is empty. Give a file or a run's folder, or leave it out.")
        if self.thaw_epoch is not None and not self.freeze:
            raise UsageError(f"thaw_epoch is {self.thaw_epoch}, but nothing is frozen. Give freeze too.")
        if self.lora_layers and self.lora_rank is None:
            raise UsageError("lora_layers chooses the layers of lora_rank, which is not given. Give it too.")

    def without_effect(self, epochs: float, *, has_own_model: bool) -> list[str]:
        """Returns a line for each option that changes nothing, or that keeps weights that nothing has trained.

        Args:
            epochs: the length of the run.
            has_own_model: whether the model is made by a function, which may read weights itself.
        """
        lines = []
        if (self.thaw_epoch or 0) >= epochs:
            lines.append(
                f"thaw_epoch is {self.thaw_epoch}, but the run has {text_of(epochs)}, so the layers stay frozen."
            )
        if (kept := self.freeze or self.lora_rank) and self.init_from is None and not has_own_model:
            name = "freeze" if self.freeze else "lora_rank"
            lines.append(
                f"{name} is {kept!r}, but without init_from the weights that it keeps are random. Give init_from, or "
                f"leave out {name}."
            )
        return lines


def _check_pattern(name: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{name} has {pattern!r}, which is no regular expression: {error}.") from None
    if not pattern:
        raise UsageError(f"{name} has an empty pattern, which would match each layer. Leave it out.")
