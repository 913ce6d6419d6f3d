"""The files of a run of `fit`, and its results."""

from tfdist.callbacks.throughput import Throughput
from tfdist.callbacks.writers import plain
from tfdist.internals.access import models
from tfdist.records.configuration import describe_run
from tfdist.records.files import open_files
from tfdist.strategy.workers import Workers


def files_of_fit(model, feed, loop, options, checkpoints):
    """Returns the `RunFiles` of a call of `fit`, or `NoFiles` without a folder.

    Args:
        model: a compiled, built `keras.Model`.
        feed: the `Feed` that is trained on.
        loop, options, checkpoints: the `LoopOptions`, `StepOptions` and `CheckpointOptions`.
    """
    if checkpoints.folder is None:
        return open_files(None, model)
    length = {"epochs": None if loop.steps else loop.epochs, "steps": loop.steps}
    told = (loop, options, checkpoints)
    config = describe_run("tfdist.fit", model, feed, told, optimizer=model.optimizer, loss=model.loss, **length)
    return open_files(
        checkpoints.folder,
        model,
        name=model.name,
        config=config,
        throughput=throughput_of(model, feed),
        global_batch=feed.global_batch,
        log_every_steps=checkpoints.log_every_steps,
        advises=loop.verbose != 0,
    )


def throughput_of(model, feed):
    """Returns the `Throughput` of a run; None where the rows of its steps cannot be known."""
    if feed.rows_of_steps:
        return Throughput(feed.rows_of_steps)
    # Each of several workers knows only its own rows.
    is_counted = Workers.of(model.distribute_strategy).count == 1 and not models.has_own(model, "train_step")
    return Throughput(RowCount(model)) if is_counted else None


class RowCount:
    """Counts the rows of data whose batches are unknown in advance, by what the mean of the loss has counted."""

    def __init__(self, model):
        self._model = model
        self._before = 0

    def __call__(self, first, steps):
        """Returns the rows since the last call; the metrics are reset at the beginning of an epoch."""
        counted = models.rows_counted(self._model)
        rows = counted - self._before if counted >= self._before and first else counted
        self._before = counted
        return rows


def finish(model, files):
    """Writes the results of a run of `fit`, and waits until they are written.

    Args:
        model: the trained `keras.Model`, whose history has the metrics.
        files: its `RunFiles` or `NoFiles`.
    """
    if not files.callbacks:
        return
    history = model.history.history
    last = plain({name: values[-1] for name, values in history.items() if values})
    workers = Workers.of(model.distribute_strategy)
    with workers.exit_on_peer_loss():
        files.finish(last)
        workers.wait()
