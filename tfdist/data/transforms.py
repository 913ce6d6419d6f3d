"""Transforms of a batch: functions (batch, row_seeds int64 (B, 2)) → batch, alone and in turn."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import tensorflow as tf

from tfdist.internals.access.tracing import as_written, compiled, converted
from tfdist.ops.refusals import as_usage_errors, refuse_unless
from tfdist.ops.rows import rows_of
from tfdist.process.errors import UsageError

# (batch, row_seeds int64 (B, 2)) → batch.
Transform = Callable[[Any, tf.Tensor], Any]
# (batch, the rows before, row_seeds int64 (B, 2)) → batch.
Mix = Callable[[Any, Any, tf.Tensor], Any]


# Of rows that have gone through fixed transforms, beside those that were read.
_MOST_BYTES_KEPT = 2**30
_Function = TypeVar("_Function", bound=Callable[..., Any])


def fixed(function: _Function) -> _Function:
    """Marks a transform that draws nothing and takes each row alone; a decorator.

    Rows in memory go through such transforms once, and not in each epoch, as long as nothing else is mapped. A function
    for `on_images` is marked in the same way. `normalise` and `one_hot` are such.

    Example:
        ```python
        from tfdist import data
        from tfdist.data import augment

        @augment.fixed
        def inverted(images, seeds):
            return 1 - images

        train = data.digits(global_batch=64).map(augment.on_images(inverted))
        ```
    """
    function.is_fixed = True  # type: ignore[attr-defined]
    return function


def is_fixed(function: object) -> bool:
    """Returns whether a transform or an augmentation is marked by `fixed`."""
    return bool(getattr(function, "is_fixed", False))


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

    @property
    def is_fixed(self) -> bool:
        """Whether all of them are."""
        return all(map(is_fixed, self.transforms))

    @as_written
    def __call__(self, batch: Any, seeds: tf.Tensor) -> Any:
        """Applies the transforms; the rows before the batch's own are used up.

        Raises:
            ValueError: a transform returns no batch.
        """
        for transform in self.transforms:
            own = transform if isinstance(transform, WithPrevious | Chain) else converted(transform)
            batch, seeds = own(batch, seeds), seeds[rows_before(transform) :]
            if not isinstance(transform, Chain):
                batch = _with_rows_checked(transform, batch, tf.shape(seeds, out_type=tf.int64)[0])
        return batch


def rows_before(transform: Transform | None) -> int:
    """Returns how many rows before its own a share needs for a transform."""
    count: int = getattr(transform, "rows_before", 0)
    return count


def apply_once(transform: Transform, rows: Any) -> Any:
    """Returns what a fixed transform makes of all rows in memory; None if it is not dense, or too large.

    Args:
        transform: one for which `is_fixed` is true.
        rows: nested tensors (rows, ...), or None.

    Raises:
        ValueError: the transform refuses the rows.
    """
    if rows is None:
        return None
    # Lifted out of a function being traced, as the rows themselves are.
    with tf.init_scope(), tf.device("CPU:0"), as_usage_errors():
        specs = tf.nest.map_structure(lambda part: tf.TensorSpec([None, *part.shape[1:]], part.dtype), rows)
        seeds = tf.TensorSpec([None, 2], tf.int64)
        program = compiled(Chain((transform,)).__call__).get_concrete_function(specs, seeds)
        count = rows_of(tf.nest.flatten(rows)[0])
        one = program(tf.nest.map_structure(lambda part: part[:1], rows), tf.zeros([1, 2], tf.int64))
        parts = tf.nest.flatten(one)
        if not all(isinstance(part, tf.Tensor) for part in parts):
            return None
        size = sum(part.dtype.size * part.shape.num_elements() for part in parts)
        return None if size * int(count) > _MOST_BYTES_KEPT else program(rows, tf.zeros([count, 2], tf.int64))


def check_transform(name: str, transform: object) -> None:
    """Raises UsageError, which begins with a name, for what cannot be a transform."""
    if not callable(transform):
        raise UsageError(f"{name}: transform is {transform!r}. Use a function (batch, row_seeds) → batch.")


def _with_rows_checked(transform: Transform, batch: Any, rows: tf.Tensor) -> Any:
    """Returns the batch; it fails where the transform has not returned one row for each row."""
    name = f"transform {getattr(transform, '__qualname__', type(transform).__qualname__)}"
    parts = [part for part in tf.nest.flatten(batch) if part is not None]
    if isinstance(batch, list) or not parts or not all(tf.is_tensor(part) and part.shape.rank != 0 for part in parts):
        raise UsageError(f"{name}: it returned {batch!r}. Return tensors (B, ...): x, (x, y) or (x, y, sample_weight).")
    counts = tf.stack([rows_of(part) for part in parts])
    wrong = counts != rows
    message = tf.strings.format(
        f"{name}: it returned {{}} rows for {{}}. Return one for each row; leave rows out when you make the source.",
        (counts[tf.argmax(tf.cast(wrong, tf.int32))], rows),
    )
    with tf.control_dependencies([refuse_unless(~tf.reduce_any(wrong), message)]):
        return tf.nest.map_structure(lambda part: None if part is None else tf.identity(part), batch)
