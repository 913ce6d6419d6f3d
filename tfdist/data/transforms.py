"""Transforms of a batch: functions (batch, row_seeds int64 (B, 2)) → batch, alone and in turn."""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfdist.internals.access.tracing import as_written, converted

# (batch, row_seeds int64 (B, 2)) → batch.
Transform = Callable[[Any, tf.Tensor], Any]
# (batch, the rows before, row_seeds int64 (B, 2)) → batch.
Mix = Callable[[Any, Any, tf.Tensor], Any]


class WithPrevious:
    """Makes a transform for `Source.map` of a function that combines each row with the row before it.

    The row before is that of the global batch, whose first row follows its last one, as if it were rolled by one. A
    share of it therefore needs one row more than it has, and the result is the same on any number of workers. In an
    order that is shuffled, the row before is a random one.

    Called directly, it takes B + 1 rows and their seeds, and returns the last B.

    Args:
        mix: a function (batch, previous, row_seeds) → batch; `previous` is nested as the batch is, and row i of it is
            the row before row i of the batch, after all transforms before this one.

    Attributes:
        rows_before: how many rows before its own a share needs.

    Example:
        ```python
        from tfdist import data
        from tfdist.data import augment

        def pasted(batch, previous, seeds):
            (images, labels), (others, _) = batch, previous
            return (images + others) / 2, labels

        train = data.digits(global_batch=64).map(augment.WithPrevious(pasted))
        ```
    """

    rows_before = 1

    def __init__(self, mix: Mix) -> None:
        self._mix = converted(mix)

    def __call__(self, batch: Any, seeds: tf.Tensor) -> Any:
        """Combines the rows 1..B with the rows 0..B-1."""
        own = tf.nest.map_structure(lambda part: part[1:], batch)
        return self._mix(own, tf.nest.map_structure(lambda part: part[:-1], batch), seeds[1:])


@dataclasses.dataclass(frozen=True)
class Chain:
    """Transforms in turn."""

    transforms: tuple[Transform, ...]

    @property
    def rows_before(self) -> int:
        """How many rows before its own a share needs for them."""
        return sum(map(rows_before, self.transforms))

    @as_written
    def __call__(self, batch: Any, seeds: tf.Tensor) -> Any:
        """Applies the transforms; the rows before the batch's own are used up."""
        for transform in self.transforms:
            own = transform if isinstance(transform, WithPrevious | Chain) else converted(transform)
            batch, seeds = own(batch, seeds), seeds[rows_before(transform) :]
        return batch


def rows_before(transform: Transform | None) -> int:
    """Returns how many rows before its own a share needs for a transform."""
    count: int = getattr(transform, "rows_before", 0)
    return count
