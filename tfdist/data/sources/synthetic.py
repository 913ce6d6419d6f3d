"""Generated rows, for tests and benchmarks: a function of (seed, row) that a model learns easily."""

from collections.abc import Sequence
from typing import Any, Unpack

import tensorflow as tf

from tfdist.data.source import Ordering, Reader, SeededOrdering, Source, make_source
from tfdist.data.sources.arrays import MemoryReader, RowReader
from tfdist.ops import hashing
from tfdist.options import DEFAULT_GLOBAL_BATCH
from tfdist.process.errors import UsageError

SHAPES: dict[str, tuple[int, ...]] = {"images": (224, 224, 3), "tokens": (128,), "vectors": (64,)}
# The numbers of the test rows begin far above those of the train rows, so that the two never overlap.
FIRST_ROW = {"train": 0, "test": 2**40}
_LABEL, _WALK = 1, 2


def make_synthetic(
    split: str = "train",
    *,
    kind: str = "images",
    shape: Sequence[int] | None = None,
    classes: int = 10,
    rows: int = 1024,
    pool: int | None = None,
    seed: int = 0,
    global_batch: int = DEFAULT_GLOBAL_BATCH,
    **order: Unpack[Ordering],
) -> Source:
    """Makes a source of generated rows.

    Images and vectors are noise whose mean depends on the class. Tokens count upwards, each row with
    its own start and stride, and the label of a token is the next token.

    Args:
        split: "train" or "test".
        kind: "images" (float32 in 0..1), "vectors" (float32 in -2..2) or "tokens" (int32 in
            0..classes-1).
        shape: of one row; None for (224, 224, 3), (64,) or (128,), depending on the kind.
        classes: number of classes or, for tokens, the size of the vocabulary.
        rows: rows in an epoch.
        pool: None to make every row on the fly, or the number of rows to make once, keep in memory and
            repeat.
        seed: of the rows and of their order.
        global_batch: rows of a step, over all replicas.
        **order: `shuffle`, `drop_remainder`, `transform` of `make_source`.

    Returns:
        A `Source` of (x, y); y is int32 (B,) or, for tokens, (B, T).

    Example:
        ```python
        from tfdist import data

        sentences = data.make_synthetic(kind="tokens", shape=(16,), classes=100, rows=512, global_batch=32)
        tokens, next_tokens = sentences.first_rows(2)
        ```
    """
    name = f"synthetic/{split}"
    _check(name, split, kind, classes, pool)
    row_shape = tuple(shape) if shape is not None else SHAPES[kind]
    if kind == "tokens" and len(row_shape) != 1:
        raise UsageError(f"{name}: shape of tokens is {row_shape}. Use one number, as in (128,).")
    reader: Reader = SyntheticReader(kind, row_shape, classes, rows, seed=seed, first=FIRST_ROW[split])
    if pool is not None:
        reader = PoolReader(reader, pool)
    options: SeededOrdering = {"shuffle": split == "train", "seed": seed, **order}
    return make_source(name, reader, global_batch=global_batch, classes=classes, **options)


def _check(name: str, split: str, kind: str, classes: int, pool: int | None) -> None:
    if split not in FIRST_ROW:
        raise UsageError(f"{name}: split is {split!r}. Use 'train' or 'test'.")
    if kind not in SHAPES:
        raise UsageError(f"{name}: kind is {kind!r}. Use one of {sorted(SHAPES)}.")
    if classes < 1 or (pool is not None and pool < 1):
        raise UsageError(f"{name}: classes is {classes} and pool is {pool}. Use 1 or more.")


class SyntheticReader(RowReader):
    """Makes rows from their numbers."""

    def __init__(self, kind: str, shape: tuple[int, ...], classes: int, rows: int, *, seed: int, first: int) -> None:
        self.rows = rows
        self._kind, self._shape, self._classes = kind, shape, classes
        self._seed, self._first = seed, first

    def decode(self, items: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Makes the rows with the numbers `items`: (x, y)."""
        numbers = items + self._first
        seeds = tf.stack([tf.fill(tf.shape(numbers), tf.constant(self._seed, tf.int64)), numbers], 1)
        return self._tokens(seeds) if self._kind == "tokens" else self._noise(seeds)

    def _tokens(self, seeds: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        draws = hashing.uniforms(seeds, 2, stream=_WALK)
        start = tf.cast(draws[:, :1] * self._classes, tf.int32)
        stride = 1 + tf.cast(draws[:, 1:] * (self._classes - 1), tf.int32)
        walk = (start + stride * tf.range(self._shape[0] + 1)) % self._classes
        return walk[:, :-1], walk[:, 1:]

    def _noise(self, seeds: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        labels = hashing.integers(seeds, self._classes, stream=_LABEL)
        noise = tf.map_fn(
            lambda seed: tf.random.stateless_uniform(self._shape, seed, alg="philox"),
            seeds,
            fn_output_signature=tf.TensorSpec(self._shape, tf.float32),
        )
        level = tf.reshape(tf.cast(labels, tf.float32) / self._classes, [-1] + [1] * len(self._shape))
        images = (noise + level) / 2
        return (images if self._kind == "images" else 4 * images - 2), labels


class PoolReader(MemoryReader):
    """The first rows of another reader, kept in memory and repeated."""

    def __init__(self, reader: Reader, pool: int) -> None:
        super().__init__(reader.rows, lambda: reader.decode(tf.range(pool, dtype=tf.int64)))
        self._pool = pool

    def decode(self, items: tf.Tensor) -> Any:
        """Picks the rows with the numbers `items`."""
        return super().decode(items % self._pool)

    def tensors(self) -> None:
        """Returns None, because the pool is picked from by other numbers than the rows'."""
        return None
