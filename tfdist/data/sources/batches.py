"""Data that come in global batches already: a `tf.data.Dataset`, a `PyDataset` or a generator."""

import dataclasses
import functools
from typing import ClassVar

import tensorflow as tf

from tfdist.data.delivery import delivery
from tfdist.data.delivery.share import Form, Share, cut, is_absent_spec
from tfdist.internals.access import runtime
from tfdist.internals.access.pipelines import shuffles_of
from tfdist.internals.access.tracing import as_written
from tfdist.process.errors import UsageError


@dataclasses.dataclass(frozen=True)
class BatchCutter:
    """A `delivery.Taker` that cuts shares out of global batches, which the step itself reads.

    Attributes:
        places: the worker's `delivery.Places`.
        may_end: whether the number of batches is unknown.
    """

    places: delivery.Places
    may_end: bool
    reads_as_is: ClassVar[bool] = True

    def read(self, strategy, batches, step):
        """Reads the next global batch."""
        del strategy, step
        return next(batches)

    def share(self, strategy, element):
        """Cuts the slice of each replica."""
        replicas, first, own, size = self.places
        return delivery.to_replicas(strategy, tuple(cut(element, replicas, first + i, size) for i in range(own)))

    def next(self, strategy, batches, step):
        """Reads the next global batch; each worker sees the end by itself."""
        del step
        if not self.may_end:
            element = next(batches)
            return None, lambda: self.share(strategy, element)
        optional = batches.get_next_as_optional()
        return optional.has_value(), lambda: self.share(strategy, optional.get_value())


class Batches:
    """Global batches of the user's own, each cut into one slice per replica; every worker reads all of them.

    Args:
        name: its name in messages.
        dataset: a `tf.data.Dataset` of nested tensors (G, ...), the same on every worker.
        cardinality: batches in an epoch; None where that is unknown until it ends.
        global_batch: None, or the rows of every batch if all shares must have the same number of rows.

    Attributes:
        name, cardinality: the same.
        iterators: how many iterators of the data set were made; a pipeline that shuffles has another order in each.
        iterators_before: None, or that number in an earlier start of the run, up to which the next reading catches up.
    """

    def __init__(self, name, dataset, cardinality=None, global_batch=None):
        self.name = name
        self.cardinality = cardinality
        self.iterators = 0
        self.iterators_before = None
        self._dataset = dataset
        self._global_batch = global_batch
        self._delivered = None, None

    def why_not_repeatable(self):
        """Returns why a resumed run would read the rows in another order; None where it would not."""
        shuffles = shuffles_of(self._dataset)
        if shuffles.unseeded:
            return "its shuffle has no seed"
        if shuffles.cached and shuffles.anew:
            return "it shuffles both before and after its cache"
        # Seen on TensorFlow 2.21: whether the last pass was read to its end decides the orders of the next iterator.
        if shuffles.repeated and self._dataset.cardinality() != tf.data.INFINITE_CARDINALITY:
            return "it shuffles before repeat(n), and the next order depends on how far TensorFlow has read ahead"
        return None

    def _catch_up(self, step):
        """Makes the iterators that earlier starts of the run have made, so that the next one has the order it had."""
        if self.iterators_before is None:
            return
        # In the middle of a pass, the last iterator is the one to read on from.
        missing = max(0, self.iterators_before - bool(step) - self.iterators)
        self.iterators_before = None
        if not shuffles_of(self._dataset).anew:
            return
        for _ in range(missing):
            # Each iterator takes the next order when it is made, also if no row is read from it.
            iter(self._dataset)
        self.iterators += missing

    def _counted(self, begin):
        """Returns a function that begins a reading and counts it."""

        def counted():
            self.iterators += 1
            return begin()

        return counted

    def with_static_shapes(self):
        """Returns the same batches with the same number of rows in every share, some of which may not count.

        Raises:
            ValueError: the batches may have any number of rows.
        """
        parts = [spec for spec in tf.nest.flatten(self.element_spec) if not is_absent_spec(spec)]
        if not all(isinstance(spec, tf.TensorSpec) and spec.shape.is_fully_defined() for spec in parts):
            raise UsageError(
                f"{self.name}: a TPU needs batches of one fixed shape, but these may have any: {self.element_spec}. "
                "Use dataset.batch(…, drop_remainder=True), or give arrays or a source of tfdist.data."
            )
        return Batches(self.name, self._dataset, self.cardinality, parts[0].shape[0])

    @property
    def element_spec(self):
        """Nested specs of a batch."""
        return self._dataset.element_spec

    def form(self, replicas):
        """Returns the `Form` of the batches, whose numbers of rows are not known in advance."""
        if self._global_batch is None:
            return Form(may_be_empty=replicas > 1)
        return Form(self._global_batch < replicas, padded=self._global_batch % replicas > 0)

    def is_in_memory(self, strategy):
        """Returns False: the batches come from a pipeline; see `Source.is_in_memory`."""
        return False

    def deliver(self, strategy, epoch=0, step=0):
        """Makes a function () → a `delivery.Reading` from the beginning of the data.

        Args:
            strategy: the `tf.distribute.Strategy`.
            epoch: not used here, because the data set has an order of its own.
            step: batches to skip.
        """
        self._catch_up(step)
        may_end = bool(self._dataset.cardinality() == tf.data.UNKNOWN_CARDINALITY)
        if runtime.is_on_cpus(strategy):
            places = delivery.own_places(strategy, self._global_batch)
            data = self._dataset.skip(step) if step else self._dataset
            return self._counted(delivery.stream(data, BatchCutter(places, may_end)))
        # Kept, because each epoch begins anew, and tracing the cuts may take longer than an epoch.
        if self._delivered[0] != (strategy, step):
            shares = functools.partial(self.shares, self._dataset, step=step)
            begin = delivery.deliver_shares(strategy, shares, delivery.ShareTaker(may_end))
            self._delivered = (strategy, step), self._counted(begin)
        return self._delivered[1]

    def shares(self, dataset, places, *, step):
        """Returns the endless `tf.data.Dataset` of a worker: in each element a `Share` for each of its replicas.

        After the last batch come shares with `global_rows` 0, without end. So each worker sees the end by itself,
        without the vote at each step that `tf.distribute` needs for finite data sets.

        Args:
            dataset: the batches to cut.
            places: the `delivery.Places` of this worker's slices.
            step: batches to skip.
        """
        replicas, first, count, _ = places
        size = self._global_batch and -(-self._global_batch // replicas)

        def shares(*batch):
            whole = batch[0] if len(batch) == 1 and not isinstance(self.element_spec, tuple) else batch
            return tuple(cut(whole, replicas, first + place, size) for place in range(count))

        found = dataset.skip(step).map(as_written(shares))
        end = tf.data.Dataset.from_tensors(tuple(map(_empty_like, found.element_spec))).repeat()
        return (
            found.concatenate(end)
            .apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
            .prefetch(tf.data.AUTOTUNE)
        )


def _empty_like(spec):
    """Returns a `Share` of the given spec that marks the end of the data; its one row has no meaning."""
    zero = tf.constant(0, tf.int64)
    return Share(tf.nest.map_structure(_fill, spec.batch), zero, zero, zero)


def _fill(spec):
    if is_absent_spec(spec):
        return None
    shape = [1 if size is None else size for size in spec.shape]
    if isinstance(spec, tf.SparseTensorSpec):
        return tf.SparseTensor(tf.zeros([0, len(shape)], tf.int64), tf.zeros([0], spec.dtype), shape)
    if isinstance(spec, tf.RaggedTensorSpec):
        values = tf.zeros([0, *shape[spec.ragged_rank + 1 :]], spec.dtype)
        splits = [tf.constant([0, 0], spec.row_splits_dtype)]
        splits += [tf.constant([0], spec.row_splits_dtype)] * (spec.ragged_rank - 1)
        return tf.RaggedTensor.from_nested_row_splits(values, splits)
    return tf.zeros(shape, spec.dtype)
