"""Writes the files of a run's folder: its configuration, its metrics, events for TensorBoard, its model and summary."""

import contextlib
import os
import pathlib

from tfdist.callbacks.base import Callback
from tfdist.callbacks.epoch_seconds import EpochSeconds
from tfdist.callbacks.report import Report
from tfdist.callbacks.writers import MetricsFile, TensorBoardScalars
from tfdist.process.beginning import run_began
from tfdist.process.exits import StopRequest
from tfdist.process.faults import ATTEMPT
from tfdist.process.log import warn
from tfdist.records.summary import summarize
from tfdist.resume.callback_state import has_stopped
from tfdist.run import rundir
from tfdist.strategy.workers import Workers


class NoFiles:
    """A run without a folder, which writes nothing."""

    callbacks = ()

    def begin(self, callbacks, *, step, total, epochs, steps_per_epoch):
        """Receives the callbacks, the first step and the length of the run, before its first epoch; None if unknown."""

    def ended(self):
        """Returns a context in which the run is trained, to record how that ends."""
        return contextlib.nullcontext()

    def finish(self, metrics=None, **more):
        """Writes the results."""


class RunFiles(Callback, NoFiles):
    """Writes the files of a run; all workers have it, and the chief writes.

    Args:
        run: the `RunDir`.
        model: the `keras.Model`.
        name: the name of the run, for its summary.
        config: what `config.json` is to hold, JSON types.
        optimizer: the Keras optimizer, if the model has none of its own.
        throughput: the `Throughput` of the run; None where its rows are unknown.
        global_batch: rows of a step over all replicas, for advice; None where it is unknown.
        log_every_steps: None, or the steps between lines in metrics.jsonl.
        is_measured: whether the compiled step measures its parts, as that of `fit` does.
        advises: whether a warning says where time is lost.
        screen: callbacks that show the throughput of an epoch, but not the other measurements.

    Attributes:
        callbacks: what the loop is to call, after the user's callbacks.
        throughput: the same.
        report: the `Report` among them, or None.
        began: when its start-up began, in Unix seconds.
    """

    def __init__(
        self,
        run,
        model,
        *,
        name,
        config,
        optimizer=None,
        throughput=None,
        global_batch=None,
        log_every_steps=None,
        is_measured=True,
        advises=True,
        screen=(),
    ):
        super().__init__()
        self._run, self._trained, self._name, self._config = run, model, name, config
        self.began = run_began()
        self._start, self._step, self._total, self._all = None, 0, None, ()
        self._is_finished = self._has_begun = False
        strategy = model.distribute_strategy
        self._seconds = EpochSeconds()
        self.throughput = throughput
        self.report = Report(strategy, global_batch, advises=advises) if is_measured else None
        steps = {"every_steps": log_every_steps}
        more_of_step = self.throughput.of_epoch if self.throughput else dict
        self.metrics = MetricsFile(run.metrics, self._epoch, more_of_step=more_of_step, optimizer=optimizer, **steps)
        measuring = [item for item in (self.throughput, *screen, self.report) if item]
        names = _Names()
        writing = [self.metrics, TensorBoardScalars(run.tensorboard, optimizer=optimizer, **steps)]
        self.callbacks = (self, self._seconds, names, *measuring, *writing, _Removal(names))

    @property
    def steps(self):
        """The steps done since the run began."""
        return max(self.metrics.step, self._step)

    def _epoch(self):
        if self.report is None:
            return {"seconds": self._seconds.epoch()}
        return {**self.report.epoch(), "seconds": self._seconds.epoch() | self.report.input_seconds()}

    def begin(self, callbacks, *, step, total, epochs, steps_per_epoch):
        """Keeps what the line of the start has, which is written before the first epoch if one is left."""
        workers = Workers.of(self._trained.distribute_strategy)
        self._all, self._step, self._total = callbacks, step, total
        attempt = int(os.environ.get(ATTEMPT, "0"))
        self._start = {
            "began": round(self.began, 3),
            "step": step,
            "attempt": attempt,
            "workers": workers.count,
            "replicas": self._trained.distribute_strategy.num_replicas_in_sync,
            "epochs": epochs,
            "steps_per_epoch": steps_per_epoch,
        }
        if attempt and (restarts := rundir.read_restarts(os.environ)):
            known = {name: value for name, value in restarts[-1].items() if value is not None and name != "workers"}
            self._start |= known

    def on_epoch_begin(self, epoch, logs=None):
        """Writes the configuration and the line of the start: a checkpoint that does not fit changes no file."""
        if self._has_begun:
            return
        self._has_begun = True
        # Without a checkpoint, the run may begin with a later epoch.
        self._start["step"] = max(self._start["step"], self.steps_before)
        if self.metrics.writes:
            rundir.write_json(self._run.config, self._config)
        self.metrics.write_event("start", **self._start)

    @contextlib.contextmanager
    def ended(self):
        """Writes a line that says how the training has ended."""
        try:
            yield
        except BaseException as error:
            # A full disk must not hide the error.
            with contextlib.suppress(OSError):
                self._end(*_reason(error))
            raise
        stopping = next((type(item).__name__ for item in self._all if has_stopped(item)), None)
        is_over = self._total is not None and self.steps >= self._total
        is_stopped = getattr(self._trained, "stop_training", False) and not is_over
        self._is_finished = bool(stopping) or not is_stopped
        self._end(*(("stopped", stopping or "stop_training") if is_stopped else ("finished", None)))

    def _end(self, reason, cause):
        if self._has_begun:
            cause = {} if cause is None else {"cause": cause}
            self.metrics.write_event("end", step=self.metrics.step, reason=reason, **cause)

    def finish(self, metrics=None, **more):
        """Writes the model and the summary, on the chief. A run that had nothing left to train keeps those it has.

        Args:
            metrics: name → number: the results.
            **more: further entries of the summary.

        Returns:
            The summary as a dict; None on other workers, and for a loop that has not begun.
        """
        if self._start is None or not self.metrics.writes:
            return None
        if not self._has_begun and (before := rundir.finished_summary(self._run, self.steps)):
            return before
        self._save_model()
        measured = {"examples_per_second": round(self.throughput.examples_per_second, 1)} if self.throughput else {}
        measured |= self.report.summary() if self.report else {}
        about = {"name": self._name, "finished": self._is_finished}
        summary = about | summarize(self._trained, metrics=metrics or {}, steps=self.steps, **more, **measured)
        rundir.write_json(self._run.summary, summary)
        return summary

    def _save_model(self):
        try:
            with rundir.written_aside(self._run.model) as aside:
                self._trained.save(aside)
        except OSError:
            raise
        # The code of a user's own layer may raise anything here, and the weights are in the checkpoints.
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0]
            warn(
                f"{self._run.model} is not written, because Keras cannot save this model ({type(error).__name__}: "
                f"{first}). The checkpoints have its weights. Give its classes a get_config that Keras can call."
            )


class _Names(Callback):
    """Notes which names the logs of an epoch have before the measurements are added."""

    names: frozenset[str] = frozenset()

    def on_epoch_end(self, epoch, logs=None):
        self.names = frozenset(logs or {})


class _Removal(Callback):
    """Takes the measurements out of the logs again, which belong to the loop and to the user's callbacks."""

    def __init__(self, before):
        super().__init__()
        self._before = before

    def on_epoch_end(self, epoch, logs=None):
        for name in set(logs or {}) - self._before.names:
            del logs[name]


def open_files(folder, model, **arguments):
    """Returns the `RunFiles` of a folder, or `NoFiles` without one; further arguments as for `RunFiles`."""
    return NoFiles() if folder is None else RunFiles(rundir.RunDir(pathlib.Path(folder)), model, **arguments)


def _reason(error):
    """Returns (the reason of the end of a run, its cause) for an exception that ended it."""
    if isinstance(error, StopRequest):
        return "stopped", error.signal
    if isinstance(error, KeyboardInterrupt):
        return "stopped", "SIGINT"
    first = (str(error).strip().splitlines() or [""])[0]
    return "failed", f"{type(error).__name__}: {first}" if first else type(error).__name__
