"""How long a loop is, and how its data are cut: what `fit`, `evaluate`, `predict` and `open_run` have in common."""

import dataclasses
from collections.abc import Collection

from tfdist.options.checks import check_fields, is_count
from tfdist.options.fields import documented, option
from tfdist.process.errors import UsageError


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """The numbers of a loop, each by the name that it has as an argument of `fit`; checked before a batch is read."""

    batch_size: int | None = option(None, help="Rows of a step over all replicas, for arrays.", least=1)
    epochs: int = option(1, help="Epochs of the whole run.", least=1)
    steps: int | None = option(None, help="Steps of the whole run, in place of epochs.", least=1)
    initial_epoch: int = option(0, help="The epoch to begin with.", least=0)
    steps_per_epoch: int | None = option(None, help="Steps in an epoch.", least=1)
    validation_split: float = option(0.0, help="The part of the rows, the last ones, to validate on.", least=0, below=1)
    validation_steps: int | None = option(None, help="Steps of a validation.", least=1)
    validation_batch_size: int | None = option(None, help="Rows of a step of a validation.", least=1)
    validation_freq: int | Collection[int] = option(
        1, help="Epochs from one validation to the next, or the epochs after which there is one.", least=1
    )
    shuffle: bool | str = option(True, words=("batch",), help="Whether arrays are shuffled, anew in each epoch.")
    verbose: int | str | bool = option("auto", words=("auto",), help="What is shown.", least=0)

    def __post_init__(self) -> None:
        check_fields(
            self,
            also={
                "validation_freq": "a whole number from 1, or a list of epochs from 1",
                "shuffle": "True, False or 'batch'",
                "verbose": "'auto', 0, 1 or 2",
            },
        )
        if not isinstance(self.validation_freq, int) and (
            isinstance(self.validation_freq, str) or not all(map(is_count, self.validation_freq))
        ):
            raise UsageError(
                f"validation_freq is {self.validation_freq!r}. Use a whole number from 1, or a list of epochs from 1."
            )
        if self.steps is not None and self.epochs != 1:
            raise UsageError(
                f"epochs is {self.epochs} and steps is {self.steps}: both say how long to train. Give one of them."
            )
