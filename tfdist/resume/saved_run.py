"""A run that goes on where it was: what it restores before its first step, and which callbacks save it."""

import contextlib
import dataclasses
import math
import pathlib
from typing import Any, Protocol

from tfdist.callbacks.base import Callback
from tfdist.callbacks.watch import make_watch
from tfdist.options.checkpoints import CheckpointOptions
from tfdist.process.errors import UsageError
from tfdist.process.log import say
from tfdist.resume import callback_state, identity
from tfdist.resume.checkpointer import Checkpointer
from tfdist.resume.decisions import Decisions, stop_requests
from tfdist.resume.finite_weights import FiniteWeights
from tfdist.resume.run_checkpoints import RunCheckpoints
from tfdist.run.rundir import RunDir
from tfdist.strategy.workers import Workers


class Trained(Protocol):
    """What a run trains and saves: a compiled `keras.Model`, or the parts of a hand-written loop.

    Attributes:
        variables: the weights and the state of random layers.
        optimizer: the Keras optimizer, or None.
        metrics: `keras.metrics.Metric`s, of which each replica has its own values.
        loss: the loss, to compare it with that of an earlier start.
        distribute_strategy: the `tf.distribute.Strategy`.
    """

    variables: list[Any]
    optimizer: Any
    metrics: list[Any]
    loss: Any
    distribute_strategy: Any


class FreshStart:
    """A run without a folder, which restores and saves nothing.

    The loop calls `begin`, and then for each of `spans` `begin_epoch`, `resume_epoch` and `end_epoch`.

    Args:
        weights: the run's `FiniteWeights`.
        callbacks: tfdist's own callbacks, which come after the user's.
        in_call: None, or a function (steps done in the call) that each step of a call is to run on this worker.

    Attributes:
        weights, callbacks, in_call: the same.
        folder: None, or the `RunDir` of the run.
        step: the steps done before.
        steps_done: the same as `Feed.spans` counts them: more if the data ended within epochs.
        steps_before: the steps that were done before the current epoch; None before the first.
    """

    folder = None
    step = 0
    steps_done = 0
    steps_before = None

    def __init__(self, weights, callbacks=(), in_call=None):
        self.weights = weights
        self.callbacks = callbacks
        self.in_call = in_call
        self._counting = ()

    def begin(self, callbacks, steps=None):
        """Receives all callbacks of the run, after their `on_train_begin`, and its total number of steps, if given."""
        self._counting = [callback for callback in callbacks if isinstance(callback, Callback)]
        for decisions in (callback for callback in self.callbacks if isinstance(callback, Decisions)):
            decisions.register_callbacks(callbacks)

    def spans(self, spans):
        """Returns the spans that are left to train."""
        return spans

    def begin_epoch(self, span):
        """Sets the callbacks' count of the steps done; it is called before their `on_epoch_begin`."""
        if self.steps_before is None:
            self.steps_before = span.done - span.first
        for callback in self._counting:
            callback.steps_before = self.steps_before

    def resume_epoch(self, span):
        """Restores what belongs to an epoch that was begun before; it is called after `on_epoch_begin`."""

    def end_epoch(self, last):
        """Counts the steps of the epoch, of which `last` are done since its beginning."""
        self.steps_before += last


class SavedRun(FreshStart):
    """A run with a folder.

    Args:
        folder: the `RunDir`.
        checkpoints: its `RunCheckpoints`.
        checkpointer: the callback that decides when to save.
        feed: the `Feed` that is trained on.
        callbacks: tfdist's own callbacks that come before the checkpointer.
        in_call: as in `FreshStart`.
    """

    def __init__(self, folder, checkpoints, checkpointer, feed, callbacks=(), in_call=None):
        super().__init__(checkpoints.weights, (*callbacks, checkpointer), in_call)
        self.folder = folder
        self._checkpoints = checkpoints
        self._checkpointer = checkpointer
        self._feed = feed
        self._steps = math.inf
        self._resumed = checkpoints.restored
        self._is_over = False
        if self._resumed:
            # Otherwise only the end of an epoch could show the number of its steps.
            feed.steps_per_epoch = feed.steps_per_epoch or self._resumed.state["steps_per_epoch"]
            if "steps_per_epoch" not in self._resumed.about.get("data", {}):
                feed.end_epochs_with_data()
            place, per_epoch = self._place(), feed.steps_per_epoch
            # A checkpoint of an earlier tfdist lacks the number: then each epoch had an iterator.
            feed.catch_up(self._resumed.state.get("iterators", place.epoch + bool(place.step_in_epoch)))
            self.steps_done = place.epoch * per_epoch + place.step_in_epoch if per_epoch else place.step
            self.step = place.step
            self.steps_before = place.step - place.step_in_epoch

    def _place(self):
        """Returns the `Place` to go on from: with another global batch at the same row, or the last step before it."""
        place, per_epoch = self._checkpoints.place, self._feed.steps_per_epoch
        there, here = self._resumed.about.get("data", {}).get("global_batch"), self._feed.global_batch
        done = place.step_in_epoch * there // here if there and here else place.step_in_epoch
        if per_epoch and done >= per_epoch:
            # As many rows are not left in an epoch of now.
            return dataclasses.replace(place, epoch=place.epoch + 1, step_in_epoch=0)
        return dataclasses.replace(place, step_in_epoch=done)

    def begin(self, callbacks, steps=None):
        """Restores the callbacks' states, which `on_train_begin` has reset."""
        super().begin(callbacks)
        self._steps = steps or math.inf
        self._checkpoints.callbacks = callbacks
        callback_state.check(callbacks)
        self._checkpoints.describe_unsavable()
        if not self._resumed:
            return
        state, arrays = self._resumed.state["callbacks"], self._resumed.arrays
        callback_state.restore(callbacks, state, arrays, self._checkpoints.known())
        if not self._checkpoints.metrics_by_epoch:
            self._checkpoints.restore_epoch()
        if self.steps_done >= self._steps:
            say(
                "the run has already done all its steps, and nothing is left to train. To train on, give more epochs; "
                "to train anew, give another run_dir."
            )
        self._is_over = any(map(callback_state.has_stopped, callbacks))
        if self._is_over:
            say(
                "EarlyStopping has already ended this run, and nothing is left to train. To train anew, give another "
                "run_dir."
            )

    def spans(self, spans):
        """Returns the spans that are left to train: none if EarlyStopping has ended the run."""
        return () if self._is_over else spans

    def resume_epoch(self, span):
        """Restores the metrics and the learning rate if the run resumes within the epoch."""
        per_epoch = self._feed.steps_per_epoch or math.inf
        partial = span.last < per_epoch and span.epoch * per_epoch + span.last >= self._steps
        self._checkpointer.begin_epoch(span, partial=partial)
        if self._resumed and span.first and self._checkpoints.metrics_by_epoch:
            self._checkpoints.restore_epoch()
        self._resumed = None


@contextlib.contextmanager
def open_saved_run(
    trained: Trained, feed, options: CheckpointOptions, *, metrics_by_epoch: bool = True, on_nan: str = "stop"
):
    """Restores the newest whole checkpoint of a run; yields a `FreshStart` or `SavedRun`.

    Args:
        trained: what is trained, built.
        feed: the `Feed` that is trained on.
        options: the `CheckpointOptions`.
        metrics_by_epoch: whether the loop resets the metrics at the beginning of each epoch.
        on_nan: one of `options.step.ON_NAN`.
    """
    strategy = trained.distribute_strategy
    several = Workers.of(strategy).count > 1
    watch = make_watch(strategy)
    watching, in_call = watch.make_callbacks()
    if options.folder is None:
        if options.every_steps:
            raise UsageError(
                f"checkpoint_every_steps is {options.every_steps}, but there is no run_dir to write to. Give one."
            )
        weights = FiniteWeights(trained, on_nan)
        yield FreshStart(weights, [*watching, *([Decisions(trained, weights)] if several else [])], in_call)
        return
    run_dir = RunDir(pathlib.Path(options.folder))
    about = {
        "data": identity.of_data(feed.data) | identity.of_rows(feed.data, Workers.of(strategy)),
        "run": identity.of_run(trained),
        "replicas": strategy.num_replicas_in_sync,
    }
    weights = FiniteWeights(trained, on_nan, run_dir)
    checkpoints = RunCheckpoints(
        run_dir,
        trained,
        feed,
        about,
        keep=options.keep,
        weights=weights,
        watch=watch,
        metrics_by_epoch=metrics_by_epoch,
    )
    with checkpoints.owned(), stop_requests() as stop_request:
        checkpoints.restore(options.resume, with_changes=options.resume_with_changes)
        decisions = [Decisions(trained, weights, stop_request)] if several else []
        stop_signal = decisions[0].stop_signal if several else stop_request
        checkpointer = Checkpointer(
            checkpoints.save, every_steps=options.every_steps, stop_signal=stop_signal, is_left=feed.is_left
        )
        yield SavedRun(run_dir, checkpoints, checkpointer, feed, [*watching, *decisions], in_call)
