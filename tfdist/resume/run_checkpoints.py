"""Writes and restores the checkpoints of one run."""

import contextlib
import dataclasses
import math
import os
import time

from tfdist.callbacks.base import Callback
from tfdist.checkpoints import checkpoint
from tfdist.checkpoints.checkpoint import ON_PURPOSE, CheckpointError, Saved
from tfdist.checkpoints.contents import contents_of
from tfdist.internals.access import models
from tfdist.process.faults import ATTEMPT
from tfdist.process.log import say, warn
from tfdist.resume import callback_state
from tfdist.resume.checkpointer import Place
from tfdist.resume.replica_state import GRADIENTS, METRICS, OTHER_METRICS, OWN, ReplicaState
from tfdist.run import manifest, rundir
from tfdist.strategy.workers import Workers

_NONE, _FAILED = -1.0, -2.0


class RunCheckpoints:
    """Writes and restores the checkpoints of one run.

    Args:
        run_dir: a `RunDir`.
        trained: the `saved_run.Trained`, built.
        feed: the `Feed` that is trained on.
        about: the description of the run, as in `checkpoint.Saved`.
        keep: how many of the newest checkpoints stay, beside the best.
        weights: the `FiniteWeights`: what has become NaN is not saved.
        watch: the `Watch` over this worker.
        metrics_by_epoch: whether the loop resets the metrics at the beginning of each epoch.

    Attributes:
        weights: the same.
        callbacks: the callbacks whose states are saved.
        restored: the `Saved` that the run resumes from, or None.
        place: the `Place` that it was saved at.
    """

    def __init__(self, run_dir, trained, feed, about, *, keep, weights, watch, metrics_by_epoch=True):
        self._run_dir = run_dir
        self._trained = trained
        self._feed = feed
        self._about = about
        self._keep = keep
        self.weights = weights
        self._watch = watch
        self.metrics_by_epoch = metrics_by_epoch
        self._replicas = ReplicaState(trained)
        self._workers = Workers.of(trained.distribute_strategy)
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

    def restore(self, resume, *, with_changes=False):
        """Restores the newest whole checkpoint, which the chief chooses; every worker calls it.

        Args:
            resume: one of `options.checkpoints.RESUMES`.
            with_changes: whether other data and another run are only logged.

        Raises:
            CheckpointError, FileExistsError, FileNotFoundError: as `rundir.find_resume_step` and `checkpoint.restore`.
        """
        step = self._run_on_chief(lambda: self._find(resume))
        if step is None:
            if self._workers.is_chief and int(os.environ.get(ATTEMPT, "0")) > 0:
                say("no checkpoint was saved before: the run starts again at its first step.")
            return
        rate = models.settable_learning_rate(self._trained)
        self.restored = checkpoint.restore(self._run_dir, self._trained, step, self._about, with_changes=with_changes)
        self.place = Place(**self.restored.state["place"])
        self._check_steps_per_epoch(with_changes)
        self._set_changed_rate(rate)
        if self._replicas.is_pending() and not self._replicas.restore(GRADIENTS, self.restored.arrays):
            raise CheckpointError(
                f"checkpoint {self._run_dir.checkpoint(step)}: the gradients that wait for their update are not in it. "
                "Delete this folder to resume from the checkpoint before."
            )
        self._restore_own(step)
        if manifest.best_step(self._run_dir) in self._run_dir.checkpoint_steps():
            self._best = rundir.read_json(self._run_dir.best)

    def _restore_own(self, step):
        """Restores what each replica keeps for itself, and the metrics that no epoch resets."""
        folder, names = self._run_dir.checkpoint(step), self._replicas.own_names()
        then, now = self.restored.about.get("replicas"), self._trained.distribute_strategy.num_replicas_in_sync
        if names and then not in (None, now):
            raise CheckpointError(
                f"checkpoint {folder}: {', '.join(names)} differ between replicas, as tfdist.keep_per_replica "
                f"declares, and the checkpoint was written by {then} replicas, but there are {now} now. Resume on "
                f"{then} replicas."
            )
        if not self._replicas.restore(OWN, self.restored.arrays):
            warn(
                f"checkpoint {folder}: each replica's own values of {', '.join(names)} are not in it. All begin alike."
            )
        if not self._replicas.restore(OTHER_METRICS, self.restored.arrays):
            warn(f"checkpoint {folder}: the metrics that no epoch resets are not in it. They begin anew.")

    def _check_steps_per_epoch(self, with_changes):
        # Of data of unknown length, the checkpoint knows the number once an epoch has ended.
        there, here = self.restored.state["steps_per_epoch"], self._feed.steps_per_epoch
        if there and here and there != here and not with_changes:
            raise CheckpointError(
                f"checkpoint {self._run_dir.checkpoint(self.place.step)}: the data differ in steps_per_epoch: {there} "
                f"in the checkpoint, {here} now. Use the number of the checkpoint, or another run_dir. {ON_PURPOSE}"
            )

    def _set_changed_rate(self, rate):
        """Sets a learning rate that the script has changed since, which the checkpoint has just overwritten.

        Args:
            rate: the rate before the checkpoint was restored, or None.
        """
        there, here = self.restored.about.get("run", {}), self._about["run"]
        restored = self.restored.state["learning_rate"]
        if "learning_rate" not in here:
            here |= {name: value for name, value in there.items() if name == "learning_rate"}
            if rate not in (None, restored):
                say(f"the learning rate is {restored:g}, as in the checkpoint, and no longer {rate:g}.")
        elif "learning_rate" in there and rate is not None and there["learning_rate"] != here["learning_rate"]:
            self._trained.optimizer.learning_rate = rate
            self.restored.state["learning_rate"] = rate

    def _run_on_chief(self, function):
        """Calls a function on the chief; returns its number or None on all workers, and fails on all if it fails."""
        if self._workers.count == 1:
            return function()
        number = failure = None
        if self._workers.is_chief:
            try:
                number = function()
            except (OSError, ValueError) as error:
                failure = error
        (answer,) = self._workers.broadcast([_FAILED if failure else _NONE if number is None else float(number)])
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

    def known(self):
        """Returns the variables that are saved with what is trained, and the metrics."""
        contents = contents_of(self._trained)
        metrics = [*self._trained.metrics, *contents.metrics.values()]
        return [*contents.variables.values(), *contents.per_replica.values(), *metrics]

    def describe_unsavable(self):
        """Logs, when the run begins, what can be reached and cannot be saved."""
        if reason := self._feed.why_not_repeatable():
            warn(
                f"{self._feed.data.source.name}: {reason}, so a resumed run reads its rows in another order than the "
                "undisturbed one. Give shuffle(…, seed=…), or call keras.utils.set_random_seed before the data set is "
                "made; shuffle after cache(); and leave out repeat(n), or use repeat() with steps_per_epoch."
            )
        if found := contents_of(self._trained).unsavable:
            parts = ", ".join(f"{name} ({phrase})" for name, phrase in found.items())
            warn(
                f"checkpoints hold variables, and not {parts}: a resumed run begins there anew. Keep such a state in a "
                "keras.Variable, or in a callback with get_state and set_state."
            )

    def restore_epoch(self):
        """Restores the metrics of the unfinished epoch, and the learning rate of its last step.

        `on_epoch_begin` may just have changed the rate a second time.
        """
        rate = self.restored.state["learning_rate"]
        if rate is not None and models.settable_learning_rate(self._trained) not in (None, rate):
            self._trained.optimizer.learning_rate = rate
        if not self._replicas.restore(METRICS, self.restored.arrays):
            warn("the checkpoint lacks the metrics of its unfinished epoch: its logs cover only the steps to come.")

    def save(self, place, logs=None):
        """Saves; all workers call it together.

        Args:
            place: the `Place` to go on from.
            logs: the logs of the epoch that has just ended, which decide whether it is the best; None within one.
        """
        if not self.weights.check(place.step):
            return
        begin = time.perf_counter()
        self._watch.heartbeat.beat("save")
        has_metrics = place.step_in_epoch or not self.metrics_by_epoch
        kinds = [GRADIENTS, OTHER_METRICS, OWN, *([METRICS] if has_metrics else [])]
        arrays = self._replicas.collect(kinds)
        if not self._workers.is_chief:
            return
        items, more = callback_state.collect(self.callbacks, self.known())
        state = {
            "place": dataclasses.asdict(place),
            "steps_per_epoch": self._feed.steps_per_epoch,
            "iterators": self._feed.iterators,
            "learning_rate": models.settable_learning_rate(self._trained),
            "callbacks": items,
        }
        saved = Saved(state, arrays | more, self._about)
        checkpoint.save(self._run_dir, self._trained, place.step, saved, faults=self._watch.faults)
        self._note_best(place.step, logs or {})
        self._remove_old(place.step)
        for callback in (item for item in self.callbacks if isinstance(item, Callback)):
            callback.on_checkpoint(place.step, time.perf_counter() - begin)

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
