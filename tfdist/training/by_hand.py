"""A loop written by hand that goes on where it was, saves, stops on a signal and measures itself, as `fit` does."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdist.callbacks.desync import DesyncCheck
from tfdist.callbacks.screen import progress_lines
from tfdist.callbacks.throughput import Throughput
from tfdist.data.delivery import delivery
from tfdist.feeding.feed import Feed, open_feed
from tfdist.feeding.same_data import warn_where_workers_differ
from tfdist.feeding.static_shapes import BY_HAND
from tfdist.internals.access import models
from tfdist.internals.access.variables import reached_from
from tfdist.options.checkpoints import CheckpointOptions
from tfdist.options.loop import LoopOptions
from tfdist.options.step import StepOptions
from tfdist.process.errors import StateError, UsageError
from tfdist.process.nearest import with_known_arguments
from tfdist.records.configuration import describe_run
from tfdist.records.files import open_files
from tfdist.resume.saved_run import FreshStart, open_saved_run
from tfdist.strategy.workers import Workers
from tfdist.training import arguments, checks
from tfdist.training.callback_list import make_callback_list
from tfdist.training.lent_optimizer import LentOptimizer
from tfdist.training.states_by_hand import OneReplica, open_states

_END = object()


@dataclasses.dataclass(frozen=True)
class TrainedByHand:
    """The parts of a hand-written loop, as a `resume.saved_run.Trained`.

    Attributes:
        variables: weights, the state of random layers, and what else the user tracks.
        optimizer: the Keras optimizer.
        metrics: the tracked metrics.
        distribute_strategy: the `tf.distribute.Strategy`.
        parts: name → what the user gave; all that it leads to is saved.
    """

    variables: list[keras.Variable]
    optimizer: keras.optimizers.Optimizer
    metrics: list[keras.metrics.Metric]
    distribute_strategy: tf.distribute.Strategy
    parts: dict[str, Any]
    loss: None = None


@with_known_arguments
@contextlib.contextmanager
def open_run(
    run_dir: str | pathlib.Path | None,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    train: Any,
    *,
    steps_per_epoch: int | None = None,
    track: Sequence[Any] = (),
    callbacks: Sequence[keras.callbacks.Callback] = (),
    resume: str = "auto",
    checkpoint_every_steps: int | None = None,
    keep_checkpoints: int = 3,
    log_every_steps: int | None = None,
    resume_with_changes: bool = False,
    on_nan: str = "stop",
) -> Iterator["OpenRun"]:
    """Opens the run of a loop written by hand; the loop resumes at the very row, also after a kill.

    Enter it where `fit` would be called, outside `strategy.scope()`. It creates the variables of the model and of the
    optimizer, if they have none yet, and restores the newest whole checkpoint. Between the batches it saves, sends
    heartbeats to `tfdist.launch`, and lets all workers stop at the same step if one of them receives a signal. At the
    end it writes the model and `summary.json`, and waits for the other workers.

    Args:
        run_dir: a folder for all that the run leaves, as in `fit`; None to write nothing. Several workers need a folder
            that they share.
        model: a `keras.Model` made in the strategy's scope; it need not be compiled.
        optimizer: a Keras optimizer made in the strategy's scope.
        train: a tfdist `Source`, a `tf.data.Dataset`, a `keras.utils.PyDataset` or a generator of batches.
        steps_per_epoch: the steps in an epoch; None for those of the data.
        track: a list of what the loop keeps besides: `keras.metrics.Metric`s, Keras layers, models, optimizers,
            variables, or lists, dicts and objects of these. Layers and models are built; an optimizer need not be.
        callbacks: Keras callbacks; their logs are what the loop has given to `OpenRun.log`, and `model.optimizer` is
            the loop's, unless the model is compiled.
        resume: "auto" to resume if there is a checkpoint; "must" to require one; "never" to require an empty folder.
        checkpoint_every_steps: the steps between checkpoints; None for one at the end of each epoch.
        keep_checkpoints: how many of the newest checkpoints stay, beside the best.
        log_every_steps: steps between lines in `metrics.jsonl` and on the screen within an epoch, with what the loop
            has given to `OpenRun.log`; None for lines at the end of each epoch alone.
        resume_with_changes: whether to go on from a checkpoint of other data or other settings, with the new ones.
        on_nan: "stop" to raise `NotFiniteError` if a weight is NaN or infinite; "warn" to log it and not to save.

    Yields:
        An `OpenRun`.

    Raises:
        ValueError: arguments contradict each other, or a checkpoint is of another model or other data.
        FileExistsError, FileNotFoundError: `run_dir` does not meet the condition of `resume`.

    Example:
        ```python
        import keras
        import tensorflow as tf
        import tfdist

        strategy = tfdist.choose_strategy("one_device")
        with strategy.scope():
            model = tfdist.models.build("mlp", classes=10, input_shape=(8, 8, 1))
            optimizer = keras.optimizers.SGD(0.1)
        loss_fn = keras.losses.SparseCategoricalCrossentropy(reduction=None)

        @tf.function(reduce_retracing=True)
        def train_step(x, y):
            with tf.GradientTape() as tape:
                loss = tfdist.global_mean(loss_fn(y, model(x, training=True)))
            weights = model.trainable_variables
            tfdist.apply_gradients(optimizer, tape.gradient(loss, weights), weights)

        train = tfdist.data.load("digits", split="train", global_batch=64)
        with tfdist.open_run(None, model, optimizer, train) as run:
            for x, y in run.batches(epochs=2):
                strategy.run(train_step, args=(x, y))
        ```
    """
    loop = LoopOptions(steps_per_epoch=steps_per_epoch)
    arguments.check_call(model, "open_run", callbacks)
    arguments.check_optimizer(optimizer, "tfdist.open_run")
    arguments.check_batches(train)
    strategy = model.distribute_strategy
    checks.check_not_alone(strategy)
    checks.check_all_workers_call(strategy, "tfdist.open_run")
    checks.check_layers(model)
    workers = Workers.of(strategy)
    feed = open_feed(model, train, method=BY_HAND, steps=loop.steps_per_epoch)
    models.build_layers(model, feed.spec)
    with strategy.scope():
        if not optimizer.built:
            optimizer.build(model.trainable_variables)
    trained = _trained(model, optimizer, track)
    warn_where_workers_differ(feed.data, strategy)
    checkpoints = CheckpointOptions(
        folder=run_dir,
        resume=resume,
        every_steps=checkpoint_every_steps,
        keep=keep_checkpoints,
        log_every_steps=log_every_steps,
        resume_with_changes=resume_with_changes,
    )
    step = StepOptions(on_nan=on_nan)
    recorded = (loop, step, checkpoints)
    with (
        workers.exit_on_peer_loss(),
        open_saved_run(trained, feed, checkpoints, metrics_by_epoch=False, on_nan=step.on_nan) as saved,
        contextlib.closing(feed),
        open_states(model, trained.parts) as states,
    ):
        lent = LentOptimizer(model, optimizer)
        given = callbacks.callbacks if isinstance(callbacks, keras.callbacks.CallbackList) else callbacks or ()
        run = OpenRun(trained, feed, saved, [lent.before, given, lent.after], states, recorded)
        with run.files.ended(), contextlib.closing(lent):
            yield run
            run.end()
        run.files.finish(run.results())
        workers.wait()


def _trained(model, optimizer, track):
    if not isinstance(track, list | tuple):
        raise UsageError(f"tfdist.open_run: track is {track!r}. Use a list.")
    metrics, others = [], []
    for item in track:
        variables = getattr(item, "variables", [item])
        reached = reached_from({"track": item})
        if not reached.variables and not (reached.metrics and variables):
            raise UsageError(
                f"tfdist.open_run: track has {item!r}, which has no variables yet. Track metrics, layers, models, "
                "optimizers, variables, or lists, dicts and objects of them, and build them before the run is opened."
            )
        if isinstance(item, keras.metrics.Metric):
            metrics.append(item)
        elif all(isinstance(variable, keras.Variable) for variable in variables):
            others += variables
    parts = {"model": model, "optimizer": optimizer, "track": list(track)}
    return TrainedByHand([*model.variables, *others], optimizer, metrics, model.distribute_strategy, parts)


class OpenRun:
    """A run of a hand-written loop, made by `open_run`.

    Attributes:
        epoch: the epoch that is running, from 0.
        steps_done: the steps done since the run began, also by earlier starts.
        files: what writes the run's folder.
    """

    def __init__(
        self,
        trained: TrainedByHand,
        feed: Feed,
        saved: FreshStart,
        callbacks: Sequence[Any],
        states: OneReplica,
        options: tuple[LoopOptions, StepOptions, CheckpointOptions],
    ) -> None:
        self.epoch = 0
        self.steps_done = 0
        self._model = model = trained.parts["model"]
        self._feed = feed
        self._saved = saved
        self._states = states
        self._strategy = model.distribute_strategy
        self._workers = Workers.of(self._strategy)
        self._rows = 0
        self._throughput = Throughput(lambda first, count: int(self._rows))
        _, _, checkpoints = options
        self.files = open_files(
            checkpoints.folder,
            model,
            name=model.name,
            config=describe_run("tfdist.open_run", model, feed, options, optimizer=trained.optimizer),
            optimizer=trained.optimizer,
            throughput=self._throughput,
            log_every_steps=checkpoints.log_every_steps,
            is_measured=False,
        )
        shown = {"epochs": 1, "steps": feed.steps_per_epoch}
        lines = progress_lines(checkpoints.log_every_steps)
        recording = self.files.callbacks or [self._throughput]
        more = [*lines, *recording, DesyncCheck(self._strategy, trained.parts), *saved.callbacks]
        self._callbacks = make_callback_list(model, callbacks, 0, **shown, more=more)
        self._logs: dict[str, Any] = {}
        self._last = None
        self._is_begun = self._is_over = False

    @property
    def examples_per_second(self) -> float:
        """The rows of all replicas per second, without the first step, which compiles, and the time between epochs."""
        return self._throughput.examples_per_second

    def log(self, **values: Any) -> None:
        """Sets the logs of the callbacks, such as `log(loss=loss)`; of per-replica values the first replica's."""
        for name, value in values.items():
            one = self._strategy.experimental_local_results(value)[0]
            if not np.issubdtype(np.asarray(one).dtype, np.number) or np.asarray(one).ndim:
                raise UsageError(f"tfdist.open_run: log({name}=…) was given {value!r}. Give a number.")
            self._logs[name] = one

    def stop(self) -> None:
        """Ends the loop after this step, which is saved; among several workers the chief's call counts."""
        self._model.stop_training = True

    def batches(self, *, epochs: int = 1, steps: int | None = None) -> Iterator[Any]:
        """Yields the batches that are left, each split over the replicas, for `strategy.run`.

        A step counts as done when the loop asks for the next batch. To leave the loop early, call `stop`.

        Args:
            epochs: the number of epochs of the whole run.
            steps: the number of steps of the whole run, in place of `epochs`.

        Yields:
            Nested values: replica r holds its rows of the global batch, possibly none.
        """
        for batches in self.epochs(epochs, steps=steps):
            yield from batches

    def epochs(self, epochs: int = 1, *, steps: int | None = None) -> Iterator[Iterator[Any]]:
        """Yields for each epoch that is left an iterator over its batches, as `batches` yields them.

        What the loop does after the last batch of an epoch, such as a validation, belongs to that epoch: it is done
        again if the run is killed in it.

        Args:
            epochs, steps: as in `batches`.

        Raises:
            RuntimeError: the loop has left an epoch before its last batch without a call of `stop`, or asks for the
                batches of the run a second time.
        """
        length = LoopOptions(epochs=epochs, steps=steps)
        epochs, steps = length.epochs, length.steps
        model, saved, callbacks = self._model, self._saved, self._callbacks
        if self._is_begun:
            raise StateError("tfdist.open_run: the batches of this run were taken before. Open the run again for more.")
        self._is_begun = True
        model.stop_training = False
        per_epoch = self._feed.steps_per_epoch
        known, total = self._feed.length(epochs=epochs, steps=steps)
        callbacks.set_params({"verbose": 0, "epochs": known, "steps": per_epoch})
        callbacks.on_train_begin()
        saved.begin(callbacks.callbacks, total)
        self.files.begin(callbacks.callbacks, step=saved.step, total=total, epochs=known, steps_per_epoch=per_epoch)
        self.steps_done = saved.step
        for span in saved.spans(self._feed.spans(saved.steps_done, epochs=epochs, steps=steps)):
            self.epoch, self._last = span.epoch, None
            saved.begin_epoch(span)
            callbacks.on_epoch_begin(span.epoch)
            saved.resume_epoch(span)
            yield self._batches_of(span)
            if self._last is None:
                raise StateError(
                    f"tfdist.open_run: the loop left epoch {span.epoch} before its last batch. Call run.stop() to end "
                    "the run early, or give steps_per_epoch for shorter epochs."
                )
            saved.weights.check(self.steps_done)
            callbacks.on_epoch_end(span.epoch, dict(self._logs))
            saved.end_epoch(self._last)
            if model.stop_training:
                break
        callbacks.on_train_end(dict(self._logs))
        self._is_over = True

    def _batches_of(self, span):
        reading = self._feed.begin(span)
        self.steps_done = self._saved.steps_before + span.first
        left = int(min(span.last - span.first, 2**62))
        elements = delivery.batches(self._strategy, reading, left, self._feed.form)
        done, ended = 0, False
        while done < left and not self._model.stop_training:
            self._callbacks.on_train_batch_begin(span.first + done)
            element = next(elements, _END)
            ended = element is _END
            if ended:
                break
            batch, self._rows = element
            self._states.before_step(batch, self._rows)
            yield batch
            self._states.after_step()
            done += 1
            self.steps_done += 1
            # Among several workers the chief decides when, in `resume.decisions`.
            if self._workers.count == 1 and self._saved.weights.is_due():
                self._saved.weights.check(self.steps_done)
            self._callbacks.on_train_batch_end(span.first + done - 1, dict(self._logs))
        if done == left:
            # A reading moves on when the next batch is asked for.
            next(elements, None)
        self._feed.end(span, done, ended=ended)
        self._last = span.first + done

    def end(self) -> None:
        """Checks that the loop has come to its end; `open_run` calls it.

        Raises:
            RuntimeError: the loop has left the run's batches without a call of `stop`.
        """
        if self._is_begun and not self._is_over:
            raise StateError(
                f"tfdist.open_run: the loop was left in epoch {self.epoch}, and what it did since the last checkpoint "
                "is not saved. To end it early call run.stop(), and go on until no batch comes."
            )

    def results(self) -> dict[str, float]:
        """Returns what the loop has last given to `log`, as numbers."""
        return {name: float(value) for name, value in self._logs.items()}
