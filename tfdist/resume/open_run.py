"""Restores a run before the first step of `fit`, and writes its checkpoints."""

import contextlib
import dataclasses
import math
import os
import pathlib

from tfdist.callbacks.base import StepCallback
from tfdist.checkpoints import checkpoint
from tfdist.checkpoints.checkpoint import CheckpointError, Saved
from tfdist.internals.access import models
from tfdist.process.errors import UsageError
from tfdist.process.faults import ATTEMPT
from tfdist.process.log import say, warn
from tfdist.resume import callback_state, identity
from tfdist.resume.checkpointer import Checkpointer, Place
from tfdist.resume.decisions import Decisions, stop_requests
from tfdist.resume.replica_state import GRADIENTS, METRICS, ReplicaState
from tfdist.run import manifest, rundir
from tfdist.run.rundir import RunDir
from tfdist.strategy.choose import is_chief, worker_count
from tfdist.strategy.workers import make_broadcast


class FreshStart:
    """A run without a folder, which restores and saves nothing.

    Args:
        callbacks: tfdist's own callbacks, which come after the user's.

    Attributes:
        callbacks: the same.
        folder: None, or the `RunDir` of the run.
        steps_done: the steps done before, as `Feed.spans` counts them.
    """

    folder = None
    steps_done = 0

    def __init__(self, callbacks=()):
        self.callbacks = callbacks

    @property
    def in_call(self):
        """None, or a function (steps done in the call) that each step of a call is to run on this worker."""
        return next((call for item in self.callbacks if (call := getattr(item, "in_call", None))), None)

    def begin(self, callbacks):
        """Does nothing; it is called after `on_train_begin`, with all callbacks of the run."""

    def begin_epoch(self, span):
        """Does nothing; it is called after each `on_epoch_begin`."""

    def spans(self, spans):
        """Returns the spans that are left to train."""
        return spans


class SavedRun(FreshStart):
    """A run with a folder.

    Args:
        folder: the `RunDir`.
        store: its `Store`.
        checkpointer: the callback that decides when to save.
        feed: the `Feed` that is trained on.
        steps: the total number of steps, if the user gave it.
        callbacks: tfdist's own callbacks that come before the checkpointer.
    """

    def __init__(self, folder, store, checkpointer, feed, steps, callbacks=()):
        super().__init__((*callbacks, checkpointer))
        self.folder = folder
        self._store = store
        self._checkpointer = checkpointer
        self._feed = feed
        self._steps = steps or math.inf
        self._resumed = store.restored
        self._is_over = False
        if self._resumed:
            # Otherwise only the end of an epoch could show the number of its steps.
            feed.steps_per_epoch = feed.steps_per_epoch or self._resumed.state["steps_per_epoch"]
            place = store.place
            per_epoch = feed.steps_per_epoch
            self.steps_done = place.epoch * per_epoch + place.step_in_epoch if per_epoch else place.step

    def begin(self, callbacks):
        """Restores the callbacks' states, which `on_train_begin` has reset."""
        self._store.callbacks = callbacks
        if not self._resumed:
            return
        callback_state.restore(callbacks, self._resumed.state["callbacks"], self._resumed.arrays)
        place = self._store.place
        for callback in callbacks:
            if isinstance(callback, StepCallback):
                callback.go_on(place.step - place.step_in_epoch)
        if self.steps_done >= self._steps:
            say("the run has already done all its steps; nothing is left to train.")
        self._is_over = any(map(callback_state.has_stopped, callbacks))
        if self._is_over:
            say("EarlyStopping has already ended this run; nothing is left to train.")

    def spans(self, spans):
        """Returns the spans that are left to train: none if EarlyStopping has ended the run."""
        return () if self._is_over else spans

    def begin_epoch(self, span):
        """Restores the metrics and the learning rate if the run resumes within the epoch."""
        per_epoch = self._feed.steps_per_epoch or math.inf
        partial = span.last < per_epoch and span.epoch * per_epoch + span.last >= self._steps
        self._checkpointer.begin_epoch(span, partial=partial)
        if self._resumed and span.first:
            self._store.restore_epoch()
        self._resumed = None


class Store:
    """Writes and restores the checkpoints of one run.

    Args:
        run_dir: a `RunDir`.
        model: a compiled, built `keras.Model`.
        feed: the `Feed` that is trained on.
        about: the description of the run, as in `checkpoint.Saved`.
        keep: how many of the newest checkpoints stay, beside the best.
        watch: the `Watch` over this worker.

    Attributes:
        callbacks: the callbacks whose states are saved.
        restored: the `Saved` that the run resumes from, or None.
        place: the `Place` that it was saved at.
    """

    def __init__(self, run_dir, model, feed, about, *, keep, watch):
        self._run_dir = run_dir
        self._model = model
        self._feed = feed
        self._about = about
        self._keep = keep
        self._watch = watch
        self._writes = is_chief(model.distribute_strategy)
        self._replicas = ReplicaState(model)
        self._broadcast = make_broadcast(model.distribute_strategy)
        self._damaged = ()
        self._best = {}
        self.callbacks = ()
        self.restored = None
        self.place = None

    @contextlib.contextmanager
    def owned(self):
        """Keeps other processes out of the folder: the chief locks it, and all workers fail if it cannot."""
        with contextlib.ExitStack() as stack:
            self._run_on_chief(lambda: stack.enter_context(rundir.locked(self._run_dir)))
            yield

    def restore(self, resume):
        """Restores the newest whole checkpoint, which the chief chooses; every worker calls it.

        Raises:
            CheckpointError, FileExistsError, FileNotFoundError: as `rundir.find_resume_step` and `checkpoint.restore`.
        """
        step = self._run_on_chief(lambda: self._find(resume))
        if step is None:
            if self._writes and int(os.environ.get(ATTEMPT, "0")) > 0:
                say("no checkpoint was saved before: the run starts again at its first step.")
            return
        self.restored = checkpoint.restore(self._run_dir, self._model, step, self._about)
        self.place = Place(**self.restored.state["place"])
        if self._replicas.is_pending() and not self._replicas.restore(GRADIENTS, self.restored.arrays):
            raise CheckpointError(
                f"checkpoint {self._run_dir.checkpoint(step)}: the gradients that wait for their update are not in it. "
                "Delete this folder to resume from the checkpoint before."
            )
        if manifest.best_step(self._run_dir) in self._run_dir.checkpoint_steps():
            self._best = rundir.read_json(self._run_dir.best)

    def _run_on_chief(self, function):
        """Calls a function on the chief; returns its number or None on all workers, and fails on all if it fails."""
        if worker_count(self._model.distribute_strategy) == 1:
            return function()
        number = failure = None
        if self._writes:
            try:
                number = function()
            except (OSError, ValueError) as error:
                failure = error
        (answer,) = self._broadcast([_FAILED if failure else _NONE if number is None else float(number)])
        if failure:
            raise failure
        if answer == _FAILED:
            raise CheckpointError(f"run_dir {self._run_dir.path}: the chief cannot use it; its log says why.")
        return None if answer == _NONE else int(answer)

    def _find(self, resume):
        self._run_dir.clean_up()
        if rundir.find_resume_step(self._run_dir, resume) is None:
            return None
        step, self._damaged = checkpoint.newest_whole(self._run_dir)
        return step

    def restore_epoch(self):
        """Restores the metrics of the unfinished epoch, and the learning rate of its last step.

        `on_epoch_begin` may just have changed the rate a second time.
        """
        rate = self.restored.state["learning_rate"]
        if rate is not None and models.settable_learning_rate(self._model) not in (None, rate):
            self._model.optimizer.learning_rate = rate
        if not self._replicas.restore(METRICS, self.restored.arrays):
            warn("the checkpoint lacks the metrics of its unfinished epoch: its logs cover only the steps to come.")

    def save(self, place, logs=None):
        """Saves; all workers call it together.

        Args:
            place: the `Place` to go on from.
            logs: the logs of the epoch that has just ended, which decide whether it is the best; None within one.
        """
        self._watch.heartbeat.beat("save")
        kinds = [GRADIENTS, METRICS] if place.step_in_epoch else [GRADIENTS]
        arrays = self._replicas.collect(kinds)
        if not self._writes:
            return
        items, more = callback_state.collect(self.callbacks)
        state = {
            "place": dataclasses.asdict(place),
            "steps_per_epoch": self._feed.steps_per_epoch,
            "learning_rate": models.settable_learning_rate(self._model),
            "callbacks": items,
        }
        saved = Saved(state, arrays | more, self._about)
        checkpoint.save(self._run_dir, self._model, place.step, saved, faults=self._watch.faults)
        self._note_best(place.step, logs or {})
        self._remove_old(place.step)

    def _note_best(self, step, logs):
        name = "val_loss" if "val_loss" in logs else "loss"
        if name not in logs or (name == "loss" and self._best.get("by") == "val_loss"):
            return
        before = self._best["value"] if self._best.get("by") == name else math.inf
        # This is False for NaN, which is never the best.
        if logs[name] < before:
            self._best = {"step": step, "by": name, "value": float(logs[name])}
            rundir.write_json(self._run_dir.best, self._best)

    def _remove_old(self, step):
        # A checkpoint that was damaged when the run began would otherwise count as newer than this one.
        for damaged in set(self._damaged) & set(self._run_dir.checkpoint_steps()) - {step}:
            self._run_dir.remove_checkpoint(damaged)
        self._damaged = ()
        self._run_dir.remove_old_checkpoints(self._keep, spare={step, self._best.get("step")})


_NONE, _FAILED = -1.0, -2.0


@contextlib.contextmanager
def open_run(model, data, feed, options, watch, *, steps=None):
    """Restores the newest whole checkpoint of a run; yields a `FreshStart` or `SavedRun`.

    Args:
        model: a compiled, built `keras.Model`.
        data: the `Input` that is trained on.
        feed: its `Feed`.
        options: the `CheckpointOptions`.
        watch: the `Watch` over this worker.
        steps: the total number of steps, if the user gave it.
    """
    strategy = model.distribute_strategy
    several = worker_count(strategy) > 1
    if options.folder is None:
        if options.every_steps:
            raise UsageError(
                f"tfdist.fit: checkpoint_every_steps is {options.every_steps}, but there is no run_dir to write to. "
                "Give one."
            )
        yield FreshStart([*watch.callbacks, *([Decisions(strategy)] if several else [])])
        return
    run_dir = RunDir(pathlib.Path(options.folder))
    about = {
        "data": identity.of_data(data),
        "run": identity.of_run(model),
        "replicas": strategy.num_replicas_in_sync,
    }
    store = Store(run_dir, model, feed, about, keep=options.keep, watch=watch)
    with store.owned(), stop_requests() as stop_request:
        store.restore(options.resume)
        decisions = [Decisions(strategy, stop_request)] if several else []
        stop_signal = decisions[0].stop_signal if several else stop_request
        checkpointer = Checkpointer(store.save, every_steps=options.every_steps, stop_signal=stop_signal)
        yield SavedRun(run_dir, store, checkpointer, feed, steps, [*watch.callbacks, *decisions])
