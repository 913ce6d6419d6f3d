"""Data that each worker brings for itself: nobody else reads them, and nobody knows how long the others' are."""

import tensorflow as tf

from tfdist.data.delivery import delivery
from tfdist.data.sources.batches import Batches
from tfdist.process.errors import UsageError


class Shards(Batches):
    """Batches of each worker's own; the workers' batches of a step are together its global batch.

    How many rows that has is summed up at each step, in one small collective: that is the price for reading one's own
    shard alone. A worker whose rows have ended goes on without rows until those of all have ended.

    Args:
        name: how messages call it.
        make_dataset: a function `tf.distribute.InputContext` → `tf.data.Dataset` of nested tensors (B, ...), this
            worker's rows of each step.
    """

    def __init__(self, name, make_dataset):
        # What a batch looks like does not depend on the worker.
        super().__init__(name, make_dataset(tf.distribute.InputContext()))
        self._make_dataset = make_dataset

    def with_static_shapes(self):
        """Refuses: a TPU's host has all rows of its replicas."""
        raise UsageError(
            f"{self.name}: data.from_function is for workers with data of their own. On a TPU use a source."
        )

    def deliver(self, strategy, epoch=0, step=0):
        """Makes a function () → a `delivery.Reading` of shares, each counted within its worker alone at first.

        Args:
            strategy: the `tf.distribute.Strategy`.
            epoch: not needed here, for the data set knows its own order.
            step: batches to skip.
        """

        def shares(places):
            replicas, first, own, _ = places
            context = tf.distribute.InputContext(replicas // own, first // own, replicas)
            return self.shares(self._make_dataset(context), delivery.Places(own, 0, own), step=step)

        taker = delivery.ShareTaker(may_end=True, counts_together=True)
        return delivery.deliver_shares(strategy, shares, taker)


def from_function(make_dataset, *, name="data"):
    """Makes data of each worker's own shard, for `fit`, `evaluate` and `predict` on several workers.

    The order of the data and their division are the function's: with another number of workers the batches are others,
    and so are the weights. Where every worker can read all rows, `from_arrays` or a `tf.data` set are a better choice.

    Args:
        make_dataset: a function `tf.distribute.InputContext` → `tf.data.Dataset` of batches: what the worker
            `input_pipeline_id` of `num_input_pipelines` trains on. They may differ in length.
        name: how messages call it.

    Returns:
        Data for `tfdist.fit` and its like.

    Raises:
        ValueError: the function gives no `tf.data.Dataset`.
    """
    shards = make_dataset(tf.distribute.InputContext())
    if not isinstance(shards, tf.data.Dataset):
        raise UsageError(f"{name}: the function gave {type(shards).__name__}. Return a tf.data.Dataset of batches.")
    return Shards(name, make_dataset)
