"""How the shares of global batches reach the replicas of this worker, in calls of several steps.

`Source.deliver` and `Batches.deliver` give a function that makes `Reading`s, each from the same place on. A reading
yields what a call of a compiled program gets, and its `Taker` says how a step makes a `Share` of that.
"""

import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from tfdist.data.delivery.share import Share, rows_that_count
from tfdist.internals.access import runtime
from tfdist.internals.access.collectives import gather_over_replicas
from tfdist.internals.access.tracing import as_written, compiled
from tfdist.strategy.choose import worker_count, worker_rank


class Places(NamedTuple):
    """Which shares of a global batch are this worker's.

    Attributes:
        replicas: how many slices a global batch is cut into.
        first, own: the first slice that is this worker's, and how many are.
        size: None, or how many rows every share is to have; see `share.cut`.
    """

    replicas: int
    first: int
    own: int
    size: int | None = None


class Taker(Protocol):
    """What all calls do alike: programs are compiled for it, so it is hashable and holds no tensors.

    Attributes:
        may_end: whether the data may end before a call has all of its steps.
    """

    may_end: bool

    def read(self, strategy, batches, step) -> Any:
        """Reads what a step needs, eagerly or in a function being traced.

        Args:
            strategy: the `tf.distribute.Strategy`.
            batches: what the reading gave to the call.
            step: the step of the call, an int64 scalar.

        Raises:
            StopIteration: eagerly, the data have ended.
        """

    def share(self, strategy, element) -> Share:
        """Makes a `Share` for `strategy.run` of what was read; on several replicas its tensors are per-replica ones."""

    def next(self, strategy, batches, step) -> tuple[tf.Tensor | None, Callable[[], Share]]:
        """Reads in a function being traced; arguments as above.

        Returns:
            (whether there was something to read, a bool scalar, or None where there always is; a function that makes
            the `Share`).
        """


class Reading(Protocol):
    """A place in the data.

    Attributes:
        taker: its `Taker`.
        spec: the nested specs, or the iterator itself, that stand for what a call gets.
        element_spec: the nested specs of what `Taker.read` gives; None where nobody knows them before.
    """

    taker: Taker

    def calls(self, steps) -> Iterator[tuple[Any, int]]:
        """Yields (what a call gets, how many steps it has) for the next so many steps, mostly in one call.

        The place moves on when the next call is asked for.
        """


def own_places(strategy, rows_of_batch=None):
    """Gives the `Places` of this worker's replicas.

    Args:
        strategy: the `tf.distribute.Strategy`.
        rows_of_batch: None, or the rows of a global batch where every share is to have the same number of rows.
    """
    replicas = strategy.num_replicas_in_sync
    count = replicas // worker_count(strategy)
    size = rows_of_batch and -(-rows_of_batch // replicas)
    return Places(replicas, worker_rank(strategy) * count, count, size)


def to_replicas(strategy, shares):
    """Hands a tuple of `Share`s, one a replica of this worker, to CPUs: nothing has to be moved."""
    if len(shares) == 1:
        return shares[0]
    return strategy.experimental_distribute_values_from_function(
        lambda context: shares[context.replica_id_in_sync_group % len(shares)]
    )


def elements(strategy, reading, steps):
    """Yields eagerly what a `Reading`'s taker reads for so many steps; fewer where the data end."""
    for batches, count in reading.calls(steps):
        for step in range(count):
            try:
                yield reading.taker.read(strategy, batches, tf.constant(step, tf.int64))
            except StopIteration:
                return


# Kept for the next epoch and the next `fit`, because tracing takes long.
@functools.lru_cache(maxsize=8)
def own_rows(strategy, taker):
    """Gives a compiled function of what a taker read → per-replica nested tensors: the rows that count."""

    def rows(element):
        return strategy.run(rows_that_count, args=(taker.share(strategy, element),))

    return compiled(rows, reduce_retracing=True)


@dataclasses.dataclass(frozen=True)
class ShareTaker:
    """Takes shares that a pipeline has cut: tuples of them, or per-replica ones of `tf.distribute`'s iterator.

    Such a pipeline has no end: behind the last batch come shares with `global_rows` 0.

    Attributes:
        may_end: whether such shares may come.
        counts_together: whether `global_rows` and `first_row` are within the worker, until all have counted together.
    """

    may_end: bool = False
    counts_together: bool = False

    @property
    def reads_as_is(self):
        """Whether `read` gives what the pipeline gives."""
        return not self.counts_together

    def read(self, strategy, batches, step):
        """Reads the next shares."""
        del step
        element = next(batches)
        if self.counts_together:
            element = counted_together(strategy)(self.share(strategy, element))
        if self.may_end and tf.executing_eagerly() and not has_rows(strategy, self.share(strategy, element)):
            raise StopIteration
        return element

    def share(self, strategy, element):
        """Hands them to the replicas."""
        # A named tuple is a share itself.
        return element if isinstance(element, Share) else to_replicas(strategy, element)

    def next(self, strategy, batches, step):
        """Reads, and looks whether there are rows."""
        share = self.share(strategy, self.read(strategy, batches, step))
        return has_rows(strategy, share) if self.may_end else None, lambda: share


def has_rows(strategy, share):
    """Says whether the global batch of a share has rows: a bool scalar."""
    return strategy.experimental_local_results(share.global_rows)[0] > 0


@functools.lru_cache(maxsize=2)
def counted_together(strategy):
    """Gives a function of a share whose rows each worker has counted for itself → it with the rows of all."""

    def count(share):
        rows, first = strategy.run(_replica_count, args=(share.replica_rows,))
        return share._replace(global_rows=rows, first_row=first)

    return compiled(count, reduce_retracing=True)


def _replica_count(rows):
    """Gives (rows of all replicas, rows of those before this one)."""
    (counts,) = gather_over_replicas([rows])
    return tf.reduce_sum(counts), tf.reduce_sum(counts[: tf.distribute.get_replica_context().replica_id_in_sync_group])


class StreamReading:
    """Reads an iterator of `tf.data` or `tf.distribute`, whole calls at once.

    Args:
        iterator: a `tf.data.Iterator` or a `tf.distribute.DistributedIterator`.
        taker: a `Taker` of its elements, with an attribute `reads_as_is`: whether `read` gives just these.
    """

    def __init__(self, iterator, taker):
        self.spec = iterator
        self.taker = taker

    @property
    def element_spec(self):
        """The nested specs of its elements, unless reading makes something else of them."""
        return self.spec.element_spec if self.taker.reads_as_is else None

    def calls(self, steps):
        """Yields (the iterator, steps): how far a call has read is the iterator's to know."""
        yield self.spec, steps

    def leave(self):
        """Drops the iterator, which has come to its end, without waiting for it.

        `tf.data` joins the thread that tunes a pipeline, and may sleep through the signal to end, for as long as the
        pipeline has run. Dropping it waits for that, with Python's lock released.
        """
        left, self.spec = [self.spec], None
        threading.Thread(target=left.clear, daemon=True).start()


def stream(data, taker):
    """Makes a function () → a `StreamReading` from the beginning; nothing is traced again for that.

    Args:
        data: a `tf.data.Dataset` or a `tf.distribute.DistributedDataset`.
        taker: a `Taker` of its elements.
    """
    return lambda: StreamReading(iter(data), taker)


def deliver_shares(strategy, make_shares, taker=None):
    """Makes a `stream` of shares.

    Where all replicas of this worker are CPUs, nothing has to be moved: then the iterator is a plain one, because that
    of `tf.distribute` costs 0.2 ms a step with one replica and 0.5 ms with two, more than a small step itself.

    Args:
        strategy: the `tf.distribute.Strategy`.
        make_shares: a function `Places` → the endless `tf.data.Dataset` of one worker: in each element a tuple of one
            `Share` for each of its replicas.
        taker: a `ShareTaker`; None for one of shares that never end.
    """
    taker = taker or ShareTaker()
    if runtime.is_on_cpus(strategy):
        return stream(make_shares(own_places(strategy)), taker)

    def pipeline(context):
        own = context.num_replicas_in_sync // context.num_input_pipelines
        return one_by_one(make_shares(Places(context.num_replicas_in_sync, context.input_pipeline_id * own, own)))

    return stream(strategy.distribute_datasets_from_function(pipeline), taker)


def one_by_one(batches):
    """Gives the same shares, one an element, as `tf.distribute` hands them to a worker's replicas in turn."""

    @as_written
    def spread(*shares):
        first, *others = map(tf.data.Dataset.from_tensors, shares)
        for other in others:
            first = first.concatenate(other)
        return first

    return batches.flat_map(spread).apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
