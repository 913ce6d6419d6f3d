"""Data of each worker's own: no other worker reads them or knows how many there are."""

from collections.abc import Callable
from typing import NoReturn

import tensorflow as tf

from tfdist.data.delivery import delivery
from tfdist.data.sources.batches import Batches
from tfdist.process.errors import UsageError

MakeDataset = Callable[[tf.distribute.InputContext], tf.data.Dataset]


class Shards(Batches):
    """Batches of each worker's own; the workers' batches of a step together are its global batch.

    Each step sums the rows of all workers in one small collective: that is the cost of reading only one's own shard. A
    worker whose rows have ended goes on without rows until the rows of all workers have ended.

    Args:
        name: its name in messages.
        make_dataset: a function `tf.distribute.InputContext` → `tf.data.Dataset` of nested tensors (B, ...), this
            worker's rows of each step.
    """

    def __init__(self, name: str, make_dataset: MakeDataset) -> None:
        # The spec of a batch does not depend on the worker.
        super().__init__(name, make_dataset(tf.distribute.InputContext()))
        self._make_dataset = make_dataset

    def with_static_shapes(self) -> NoReturn:
        """Raises ValueError, because a TPU's host has all rows of its replicas."""
        raise UsageError(
            f"{self.name}: data.from_function is for workers with data of their own. On a TPU, use a source."
        )

    def deliver(
        self, strategy: tf.distribute.Strategy, epoch: int = 0, step: int = 0
    ) -> Callable[[], delivery.Reading]:
        """Makes a function () → a `delivery.Reading` of shares, each counted within its own worker at first.

        Args:
            strategy: the `tf.distribute.Strategy`.
            epoch: not used here, because the data set has an order of its own.
            step: batches to skip.
        """

        def shares(places: delivery.Places) -> tf.data.Dataset:
            replicas, first, own, _ = places
            context = tf.distribute.InputContext(replicas // own, first // own, replicas)
            return self.shares(self._make_dataset(context), delivery.Places(own, 0, own), step=step)

        taker = delivery.ShareTaker(may_end=True, counts_over_workers=True)
        return delivery.deliver_shares(strategy, shares, taker)


def from_function(make_dataset: MakeDataset, *, name: str = "data") -> Shards:
    """Makes data from each worker's own shard, for `fit`, `evaluate` and `predict` on several workers.

    The function determines the order of the data and their division: another number of workers gives other batches, and
    so other weights. Where every worker can read all rows, prefer `from_arrays` or a `tf.data.Dataset`.

    Args:
        make_dataset: a function `tf.distribute.InputContext` → `tf.data.Dataset` of batches: the data that the worker
            `input_pipeline_id` of `num_input_pipelines` trains on. They may differ in length.
        name: its name in messages.

    Returns:
        Data for `tfdist.fit`, `tfdist.evaluate` and `tfdist.predict`.

    Raises:
        ValueError: the function does not return a `tf.data.Dataset`.

    Example:
        ```python
        import tensorflow as tf
        from tfdist import data

        def my_shard(context):
            numbers = tf.data.Dataset.range(1000).shard(context.num_input_pipelines, context.input_pipeline_id)
            return numbers.map(lambda number: (tf.cast(number, tf.float32), number % 2)).batch(32)

        train = data.from_function(my_shard, name="numbers")
        ```
    """
    shards = make_dataset(tf.distribute.InputContext())
    if not isinstance(shards, tf.data.Dataset):
        raise UsageError(f"{name}: the function returned {type(shards).__name__}. Return a tf.data.Dataset of batches.")
    return Shards(name, make_dataset)
