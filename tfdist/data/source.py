"""A data set as tfdist sees it: rows in an order, cut into global batches with one slice per replica."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypedDict

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfdist.data import order
from tfdist.data.delivery import delivery
from tfdist.data.delivery.in_memory import RowReading, may_be_on_gpu, open_specs
from tfdist.data.delivery.share import Form, Share, cut
from tfdist.data.transforms import Chain, Transform, apply_once, check_transform, is_fixed, rows_before
from tfdist.internals.access import runtime
from tfdist.internals.access.tracing import as_written
from tfdist.options.checks import is_count, is_switch, is_whole
from tfdist.process.errors import UsageError

# Of rows that a GPU picks from a copy in its own memory.
_MOST_BYTES_ON_GPU = 2**30


class Ordering(TypedDict, total=False):
    """Arguments of `make_source` that functions which make sources pass on.

    Attributes:
        shuffle: whether each epoch has an order of its own; by default only for the split "train".
        drop_remainder: leave out the last global batch if it is smaller.
        transform: None, or a function (batch, row_seeds) → batch, see `Source.map`.
    """

    shuffle: bool
    drop_remainder: bool
    transform: Transform | None


class SeededOrdering(Ordering, total=False):
    """`Ordering` with a seed.

    Attributes:
        seed: of the order, 0..2**32-1.
    """

    seed: int


class SourceOptions(SeededOrdering, total=False):
    """All arguments of `make_source` that have a default.

    Attributes:
        classes: number of classes, where there are any.
        class_names: the names of all classes in their order, where they are known; then `classes` may be left out.
    """

    classes: int | None
    class_names: Sequence[str] | None


class Reader(Protocol):
    """The origin of the rows; it is independent of the replicas.

    `items` stands for rows not yet decoded: their numbers, file names or serialized records. A worker slices items
    and decodes only its own.

    Where items are row numbers and `decode` only picks rows from memory, a reader may have a method `tensors()`, which
    returns all rows for the step to pick from: nested tensors (rows, ...) or None; or None in place of the whole.

    Attributes:
        rows: rows in an epoch.
        files: the files that every worker reads whole; empty where rows are read by number.

    Example:
        ```python
        import tensorflow as tf
        from tfdist import data

        class Squares:
            rows = 1000
            files = ()

            def global_batches(self, epoch, step, plan):
                order, size = plan.permutation(epoch), plan.global_batch
                return tf.data.Dataset.range(step, plan.steps).map(lambda s: order[s * size : (s + 1) * size])

            def decode(self, items):
                x = tf.cast(items, tf.float32)
                return x, x**2

        source = data.make_source("squares", Squares(), global_batch=32)
        x, y = next(iter(source.dataset()))
        ```
    """

    rows: int
    files: tuple[str, ...]

    def global_batches(self, epoch: tf.Tensor | int, step: tf.Tensor | int, plan: "Plan") -> tf.data.Dataset:
        """Returns the items of an epoch's global batches from `step` on: nested tensors (G, ...)."""

    def decode(self, items: Any) -> Any:
        """Turns items (B, ...), B ≥ 0, into a batch: nested tensors whose first dimension is B."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the rows become global batches.

    Example:
        ```python
        from tfdist import data

        plan = data.Plan(rows=1000, global_batch=64, seed=7)
        print(plan.steps, "steps; the first rows are", plan.order(epoch=0)[:5])
        ```
    """

    rows: int
    global_batch: int
    seed: int = 0
    shuffle: bool = True
    drop_remainder: bool = False

    @property
    def steps(self) -> int:
        """Global batches in an epoch."""
        return order.steps_per_epoch(self.rows, self.global_batch, drop_remainder=self.drop_remainder)

    def rows_of_steps(self, first: int, count: int) -> int:
        """Returns the number of rows of `count` steps of an epoch, from the step `first` on."""
        start, _ = order.batch_bounds(self.rows, self.global_batch, first)
        _, stop = order.batch_bounds(self.rows, self.global_batch, first + count - 1)
        return stop - start

    def rows_in(self, steps: int) -> int:
        """Returns the number of rows of the first `steps` steps of a run."""
        epochs, rest = divmod(steps, self.steps)
        return epochs * self.rows_of_steps(0, self.steps) + (self.rows_of_steps(0, rest) if rest else 0)

    def order(self, epoch: int) -> npt.NDArray[np.int64]:
        """Returns an epoch's order of the rows: int64 array (rows,)."""
        return order.permutation(self.seed, epoch, self.rows, shuffle=self.shuffle)

    def permutation(self, epoch: tf.Tensor | int) -> tf.Tensor:
        """Returns an epoch's order of the rows as a tensor, int64 of shape (rows,), for a traced `epoch`."""

        # NumPy runs in the input pipeline once an epoch, so that `order` stays the only definition of the order.
        result = tf.numpy_function(self.order, [epoch], tf.int64, stateful=False)
        return tf.ensure_shape(result, (self.rows,))

    def row_seeds(
        self,
        epoch: tf.Tensor,
        step: tf.Tensor,
        low: tf.Tensor | int,
        high: tf.Tensor | int,
        rows: tf.Tensor | int | None = None,
    ) -> tf.Tensor:
        """Returns one seed a row for `tf.random.stateless_*`: int64 (B, 2).

        The seed depends on (seed, epoch) and the row's place in the epoch's order, so that augmentation is the same for
        any number of replicas.

        Args:
            epoch, step: of the global batch.
            low, high: the first row in it, and that after the last one.
            rows: the rows that it has, if `low` may be below 0 for its last rows.
        """
        place = tf.range(low, high, dtype=tf.int64)
        place = step * self.global_batch + (place if rows is None else tf.where(place < 0, place % rows, place))
        run = tf.fill(tf.shape(place), self.seed + tf.cast(epoch, tf.int64) * 2**32)
        return tf.stack([run, place], axis=1)


@dataclasses.dataclass(frozen=True)
class Source:
    """An unsharded data set with its order: it is lazy and cheap, and can be made outside any scope.

    Attributes:
        name: its name in messages.
        reader: the `Reader` of its rows.
        plan: global batch, seed, shuffling.
        transform: None, or a function (batch, row_seeds) → batch, row_seeds int64 (B, 2).
        classes: number of classes, where there are any.
        class_names: the names of all classes in their order, where they are known.
        static_shapes: every share of an epoch has the same number of rows, though not all of them may count.

    Example:
        ```python
        from tfdist import data

        train: data.Source = data.digits(global_batch=64, seed=7)
        for images, labels in train.dataset(epoch=0).take(2):
            print(images.shape, labels.shape)
        ```
    """

    name: str
    reader: Reader
    plan: Plan
    transform: Transform | None = None
    classes: int | None = None
    class_names: tuple[str, ...] | None = None
    static_shapes: bool = False

    @property
    def rows(self) -> int:
        """Rows in an epoch."""
        return self.plan.rows

    @property
    def global_batch(self) -> int:
        """Rows of a step, over all replicas."""
        return self.plan.global_batch

    @property
    def cardinality(self) -> int:
        """Steps in an epoch."""
        return self.plan.steps

    def form(self, replicas: int) -> Form:
        """Returns the `Form` of the batches on a number of replicas."""
        start, stop = order.batch_bounds(self.rows, self.global_batch, self.cardinality - 1)
        uneven = stop - start < self.global_batch or self.global_batch % replicas > 0
        may_be_empty = min(self.global_batch, stop - start) < replicas
        return Form(may_be_empty=may_be_empty, padded=self.static_shapes and uneven)

    @property
    def element_spec(self) -> Any:
        """Nested `tf.TensorSpec`s of a batch, the first dimension None; None for what is absent."""
        rows = self.rows_in_memory()
        # A pipeline takes longer to make than a short epoch.
        return self.dataset().element_spec if rows is None else open_specs(rows)

    def map(self, transform: Transform) -> "Source":
        """Returns the same source with one more function (batch, row_seeds) → batch after the others.

        A function that needs other rows too is made with `augment.WithPrevious`.
        """
        check_transform(self.name, transform)
        chained = transform if self.transform is None else Chain((self.transform, transform))
        return dataclasses.replace(self, transform=chained)

    def dataset(self, epoch: int = 0) -> tf.data.Dataset:
        """Returns one epoch of global batches as a plain `tf.data.Dataset`, for one device or for inspection."""
        count = self.cardinality
        batches = self.local_batches(delivery.Places(replicas=1, first=0, own=1), epoch=epoch, step=0)
        whole = batches.take(count).map(as_written(lambda share: share.batch))
        return whole.apply(tf.data.experimental.assert_cardinality(count))

    def first_rows(self, count: int = 8) -> Any:
        """Returns the first rows of the first epoch, at most `count`."""
        items = next(iter(self.reader.global_batches(0, 0, self.plan)))
        return self.reader.decode(tf.nest.map_structure(lambda part: part[:count], items))

    def distribute(self, strategy: tf.distribute.Strategy, epoch: int = 0, step: int = 0) -> Iterator[Any]:
        """Yields the batches of one epoch, each split over the replicas of `strategy`.

        Args:
            strategy: the `tf.distribute.Strategy` that will run the step.
            epoch: which epoch's order.
            step: the first step of the epoch to yield.

        Yields:
            Nested values for `strategy.run`: replica r holds its rows of the global batch, possibly none. (On CPUs,
            TensorFlow's convolutions fail on zero rows: drop a last batch that has fewer rows than replicas.)
        """
        reading = self.deliver(strategy, epoch, step)()
        form = self.form(strategy.num_replicas_in_sync)
        for batch, _ in delivery.batches(strategy, reading, self.cardinality - step, form):
            yield batch

    def deliver(
        self, strategy: tf.distribute.Strategy, epoch: int = 0, step: int = 0
    ) -> Callable[[], delivery.Reading]:
        """Makes a function () → a `delivery.Reading` from this place on.

        The reading is endless and the caller counts the steps, because a finite data set costs a vote among the workers
        at each step.
        """
        if self.is_in_memory(strategy):
            places = delivery.own_places(strategy, self.global_batch if self.static_shapes else None)
            gpu = None if runtime.is_on_cpus(strategy) else runtime.devices_of(strategy)[0]
            return functools.partial(RowReading, self.plan, self.rows_in_memory(), places, gpu, epoch, step)
        return delivery.deliver_shares(strategy, lambda places: self.local_batches(places, epoch=epoch, step=step))

    def is_in_memory(self, strategy: tf.distribute.Strategy) -> bool:
        """Returns whether replicas pick their rows themselves, without a pipeline: on CPUs, and few rows on one GPU."""
        rows = self.rows_in_memory()
        if rows is None or runtime.is_on_cpus(strategy):
            return rows is not None
        # What a loop carries for a second GPU would pass through the first one in each step. A TPU has static shapes.
        one_gpu = strategy.num_replicas_in_sync == 1 and not self.static_shapes
        return one_gpu and may_be_on_gpu(rows, _MOST_BYTES_ON_GPU)

    def rows_in_memory(self) -> Any:
        """Returns nested tensors (rows, ...) if each batch only picks some of these rows, else None."""
        return self._rows_in_memory

    @functools.cached_property
    def _rows_in_memory(self) -> Any:
        tensors = getattr(self.reader, "tensors", lambda: None)
        if self.transform is None:
            return tensors()
        return apply_once(self.transform, tensors()) if is_fixed(self.transform) else None

    def local_batches(self, places: delivery.Places, *, epoch: int, step: int) -> tf.data.Dataset:
        """Returns the endless `tf.data.Dataset` of one worker: in each element a `Share` for each of its replicas.

        Args:
            places: the worker's `delivery.Places`.
            epoch, step: where to begin.
        """
        replicas, first, count, _ = places

        def one_epoch(e: tf.Tensor) -> tf.data.Dataset:
            start = tf.where(e == epoch, np.int64(step), np.int64(0))
            batches = self.reader.global_batches(e, start, self.plan).take(self.cardinality - start)
            return batches.enumerate(start).map(as_written(lambda s, items: (e, s, items)))

        size = -(-self.global_batch // replicas) if self.static_shapes else None
        transform, before = self.transform and Chain((self.transform,)), rows_before(self.transform)

        def shares(e: tf.Tensor, s: tf.Tensor, items: Any) -> tuple[Share, ...]:
            return tuple(decode(e, s, cut(items, replicas, first + place, size, before)) for place in range(count))

        def decode(e: tf.Tensor, s: tf.Tensor, share: Share) -> Share:
            batch = self.reader.decode(share.batch)
            if transform:
                low, high = share.first_row, share.first_row + (size or tf.maximum(share.replica_rows, 1))
                batch = transform(batch, self.plan.row_seeds(e, s, low - before, high, share.global_rows))
            return share._replace(batch=batch)

        return (
            tf.data.Dataset.range(epoch, np.iinfo(np.int64).max)
            .flat_map(as_written(one_epoch))
            .map(as_written(shares), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
            .apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
            .prefetch(tf.data.AUTOTUNE)
        )


def make_source(
    name: str,
    reader: Reader,
    *,
    global_batch: int,
    seed: int = 0,
    shuffle: bool = True,
    drop_remainder: bool = False,
    transform: Transform | None = None,
    classes: int | None = None,
    class_names: Sequence[str] | None = None,
) -> Source:
    """Checks the arguments and makes a `Source`.

    Raises:
        ValueError: no rows, a global batch below 1, a seed out of range, every row dropped, or another number of
            class_names than of classes.

    Example:
        ```python
        from tfdist import data

        reader = data.digits("test").reader
        test = data.make_source("digits in order", reader, global_batch=100, shuffle=False, classes=10)
        ```
    """
    if not is_whole(seed) or not 0 <= seed < 2**32:
        raise UsageError(f"{name}: seed is {seed!r}. Use a whole number in 0..{2**32 - 1}.")
    if not is_count(global_batch):
        raise UsageError(f"{name}: global_batch is {global_batch!r}. Use a whole number from 1.")
    for argument, value in (("shuffle", shuffle), ("drop_remainder", drop_remainder)):
        if not is_switch(value):
            raise UsageError(f"{name}: {argument} is {value!r}. Use True or False.")
    if transform is not None:
        check_transform(name, transform)
    if classes is not None and not is_count(classes):
        raise UsageError(f"{name}: classes is {classes!r}. Use a whole number from 1.")
    if not hasattr(reader, "global_batches"):
        raise UsageError(f"{name}: reader is {reader!r}. Give a tfdist.data.Reader.")
    if reader.rows < 1:
        raise UsageError(f"{name}: there are no rows. Check the folder, the split or the arrays.")
    plan = Plan(reader.rows, int(global_batch), int(seed), bool(shuffle), bool(drop_remainder))
    if plan.steps == 0:
        raise UsageError(
            f"{name}: drop_remainder leaves no batch, because {reader.rows} rows are fewer than "
            f"global_batch={global_batch}. Use a smaller global_batch."
        )
    if class_names is None:
        return Source(name, reader, plan, transform, classes)
    class_names = tuple(class_names)
    if classes not in (None, len(class_names)):
        raise UsageError(
            f"{name}: classes is {classes}, but there are {len(class_names)} class_names. Leave out classes."
        )
    return Source(name, reader, plan, transform, len(class_names), class_names)
