"""A check that all workers see the same data, because each takes its part of the same batches.

If they differ, some rows are lost and others are trained on twice.
"""

from tfdist.data.digest import digest_of_rows
from tfdist.process.log import warn
from tfdist.strategy.workers import Workers


def warn_where_workers_differ(data, strategy):
    """Compares the first rows of the workers, and warns if they are not the same; all workers must call it.

    It does not refuse them, because augmentation with different random numbers on each worker makes them differ too.

    Args:
        data: an `Input`.
        strategy: the `tf.distribute.Strategy`.
    """
    workers = Workers.of(strategy)
    if workers.count == 1 or data.first_rows is None:
        return
    digest = float(digest_of_rows(data.first_rows()))
    (chiefs,) = workers.broadcast([digest])
    _, (differ,) = workers.vote([], [digest != chiefs])
    if differ:
        warn(
            f"{data.source.name}: the first rows are not the same on all workers. Each takes its part of every batch, "
            "so rows may be trained on twice, and others never. Give all workers the same data in the same order (a "
            "shuffle with a seed, or tfdist.data), or each its own with tfdist.data.from_function. If only random "
            "augmentation makes the difference, nothing is wrong."
        )
