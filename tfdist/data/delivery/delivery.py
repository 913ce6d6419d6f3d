"""How the shares of global batches reach the replicas of this worker, in calls of several steps.

`Source.deliver` and `Batches.deliver` return a function that makes `Reading`s, each from the same place on. A reading
yields the arguments of each call of a compiled program, and its `Taker` makes a `Share` of them in each step.
"""

import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from tfdist.data.delivery.share import Share, rows_that_count
from tfdist.internals.access import runtime, tpu
from tfdist.internals.access.collectives import gather_over_replicas
from tfdist.internals.access.kept import kept
from tfdist.internals.access.tracing import as_written, compiled
from tfdist.strategy.replicas import run_on_replicas
from tfdist.strategy.workers import Workers


class Places(NamedTuple):
    """The shares of a global batch that belong to this worker.

    Attributes:
        replicas: the number of slices that a global batch is cut into.
        first, own: the first slice of this worker, and the number of its slices.
        size: None, or the number of rows that every share has; see `share.cut`.
    """

    replicas: int
    first: int
    own: int
    size: int | None = None


class Taker(Protocol):
    """The part of reading that all calls share: programs are compiled for it, so it is hashable and holds no tensors.

    Attributes:
        may_end: whether the data may end before a call has all of its steps.
    """

    may_end: bool

    def read(self, strategy, batches, step) -> Any:
        """Reads what a step needs, eagerly or in a function being traced.

        Args:
            strategy: the `tf.distribute.Strategy`.
            batches: what the reading yielded for the call.
            step: the step of the call, a scalar.

        Raises:
            StopIteration: eagerly, the data have ended.
        """

    def share(self, strategy, element) -> Share:
        """Makes a `Share` for `strategy.run` from what was read; with several replicas, it holds per-replica values."""

    def next(self, strategy, batches, step) -> tuple[tf.Tensor | None, Callable[[], Share]]:
        """Reads in a function being traced; arguments as above.

        Returns:
            (whether there was something to read, a bool scalar, or None if there always is; a function that makes the
            `Share`).
        """


class Reading(Protocol):
    """A place in the data.

    Attributes:
        taker: its `Taker`.
    """

    taker: Taker

    @property
    def spec(self) -> Any:
        """The nested specs of a call's argument, or the iterator itself."""

    @property
    def element_spec(self) -> Any:
        """The nested specs of what `Taker.read` returns; None where they are not known in advance."""

    def calls(self, steps) -> Iterator[tuple[Any, int]]:
        """Yields (the argument of a call, its number of steps) for the next `steps` steps, mostly in one call.

        The place moves on when the next call is asked for.
        """


def own_places(strategy, rows_of_batch=None):
    """Returns the `Places` of this worker's replicas.

    Args:
        strategy: the `tf.distribute.Strategy`.
        rows_of_batch: None, or the rows of a global batch if every share must have the same number of rows.
    """
    replicas, workers = strategy.num_replicas_in_sync, Workers.of(strategy)
    count = replicas // workers.count
    size = rows_of_batch and -(-rows_of_batch // replicas)
    return Places(replicas, workers.rank * count, count, size)


def to_replicas(strategy, shares):
    """Returns one `Share` per replica of this worker as per-replica values; nothing is moved to a device here."""
    if len(shares) == 1:
        return shares[0]
    return strategy.experimental_distribute_values_from_function(
        lambda context: shares[context.replica_id_in_sync_group % len(shares)]
    )


def elements(strategy, reading, steps):
    """Yields, eagerly, what a `Reading`'s taker reads for `steps` steps, or fewer if the data end."""
    for batches, count in reading.calls(steps):
        for step in range(count):
            try:
                yield reading.taker.read(strategy, batches, tf.constant(step, tf.int64))
            except StopIteration:
                return


def batches(strategy, reading, steps, form):
    """Yields (per-replica nested tensors: the rows that count; the rows of all replicas) for `steps` steps or fewer.

    Args:
        strategy, reading, steps: as for `elements`.
        form: the `Form` of the shares.
    """
    program = _own_rows(strategy, reading.taker, form)
    if reading.element_spec is not None:
        program = program.get_concrete_function(reading.element_spec)
    for element in elements(strategy, reading, steps):
        yield program(element)


def _own_rows(strategy, taker, form):
    """Returns the compiled function of what a taker read → what `batches` yields."""

    def rows(element):
        share = taker.share(strategy, element)
        total = strategy.experimental_local_results(share.global_rows)[0]
        has_others = form.may_be_empty or form.padded
        return run_on_replicas(strategy, rows_that_count, share) if has_others else share.batch, total

    return kept(strategy, ("own rows", taker, form), lambda: compiled(rows, reduce_retracing=True))


@dataclasses.dataclass(frozen=True)
class ShareTaker:
    """Takes shares that a pipeline has cut: tuples of them, or per-replica values of `tf.distribute`'s iterator.

    Such a pipeline has no end: after the last batch come shares with `global_rows` 0.

    Attributes:
        may_end: whether such shares may come.
        counts_over_workers: whether `global_rows` and `first_row` count the rows of one worker until a collective
            replaces these counts by those over all workers.
    """

    may_end: bool = False
    counts_over_workers: bool = False

    @property
    def reads_as_is(self):
        """Whether `read` returns the pipeline's elements unchanged."""
        return not self.counts_over_workers

    def read(self, strategy, batches, step):
        """Reads the next shares."""
        del step
        element = next(batches)
        if self.counts_over_workers:
            element = compiled_row_count(strategy)(self.share(strategy, element))
        if self.may_end and tf.executing_eagerly() and not has_rows(strategy, self.share(strategy, element)):
            raise StopIteration
        return element

    def share(self, strategy, element):
        """Makes a per-replica `Share` of the shares."""
        # A named tuple is a share already.
        return element if isinstance(element, Share) else to_replicas(strategy, element)

    def next(self, strategy, batches, step):
        """Reads the next shares, and checks whether they have rows."""
        share = self.share(strategy, self.read(strategy, batches, step))
        return has_rows(strategy, share) if self.may_end else None, lambda: share


def has_rows(strategy, share):
    """Returns whether the global batch of a share has rows: a bool scalar."""
    # A loop that read it from a GPU would wait for all its work in each step.
    with tf.device("CPU:0"):
        return strategy.experimental_local_results(share.global_rows)[0] > 0


def compiled_row_count(strategy):
    """Returns a compiled function: a share that counts one worker's rows → the same with counts over all workers."""

    def count(share):
        rows, first = run_on_replicas(strategy, _replica_count, share.replica_rows)
        return share._replace(global_rows=rows, first_row=first)

    return kept(strategy, "row count", lambda: compiled(count, reduce_retracing=True))


def _replica_count(rows):
    """Returns (the rows of all replicas, the rows of the replicas before this one)."""
    (counts,) = gather_over_replicas([rows])
    return tf.reduce_sum(counts), tf.reduce_sum(counts[: tf.distribute.get_replica_context().replica_id_in_sync_group])


class StreamReading:
    """A `Reading` of an iterator of `tf.data` or `tf.distribute`: all steps asked for are one call.

    Args:
        iterator: a `tf.data.Iterator` or a `tf.distribute.DistributedIterator`.
        taker: a `Taker` of its elements, with an attribute `reads_as_is`: whether `read` returns them unchanged.
    """

    def __init__(self, iterator, taker):
        self.spec = iterator
        self.taker = taker

    @property
    def element_spec(self):
        """The nested specs of its elements; None where the taker changes them."""
        return self.spec.element_spec if self.taker.reads_as_is else None

    def calls(self, steps):
        """Yields (the iterator, steps): the iterator itself keeps the place."""
        yield self.spec, steps

    def leave(self):
        """Drops the iterator, which has come to its end, in a thread of its own.

        When an iterator is dropped, `tf.data` joins the thread that tunes its pipeline. That thread may miss the signal
        to end, and sleep for as long as the pipeline has run. The wait releases Python's lock.
        """
        left, self.spec = [self.spec], None
        threading.Thread(target=left.clear, daemon=True).start()


def stream(data, taker):
    """Makes a function () → a `StreamReading` from the beginning; a new reading traces nothing again.

    Args:
        data: a `tf.data.Dataset` or a `tf.distribute.DistributedDataset`.
        taker: a `Taker` of its elements.
    """
    return lambda: StreamReading(iter(data), taker)


def deliver_shares(
    strategy: tf.distribute.Strategy,
    make_shares: Callable[[Places], tf.data.Dataset],
    taker: ShareTaker | None = None,
) -> Callable[[], Reading]:
    """Makes a `stream` of shares.

    Where all replicas of this worker are CPUs, nothing has to be moved. The iterator is then one of `tf.data`, because
    that of `tf.distribute` costs 0.2 ms a step with one replica and 0.5 ms with two: more than a small step. It is one
    on GPUs too if the shares may end, because that is to be seen on the host: docs/decisions/devices.md.

    Args:
        strategy: the `tf.distribute.Strategy`.
        make_shares: a function `Places` → the endless `tf.data.Dataset` of one worker: in each element a tuple of one
            `Share` for each of its replicas.
        taker: a `ShareTaker`; None for shares that never end.
    """
    taker = taker or ShareTaker()
    ends_on_gpus = taker.may_end and not tpu.is_tpu(strategy)
    if runtime.is_on_cpus(strategy) or ends_on_gpus:
        return stream(make_shares(own_places(strategy)), taker)

    def pipeline(context):
        own = context.num_replicas_in_sync // context.num_input_pipelines
        return one_by_one(make_shares(Places(context.num_replicas_in_sync, context.input_pipeline_id * own, own)))

    return stream(strategy.distribute_datasets_from_function(pipeline), taker)


def one_by_one(batches):
    """Returns the same shares, one per element: `tf.distribute` gives each replica of a worker one element in turn."""

    @as_written
    def spread(*shares):
        first, *others = map(tf.data.Dataset.from_tensors, shares)
        for other in others:
            first = first.concatenate(other)
        return first

    return batches.flat_map(spread).apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
