"""The compiled program with which `fit` trains, and what looks at its calls."""

import functools

from tfdist.callbacks.base import Callback, measurement_hooks
from tfdist.process.log import say
from tfdist.strategy.workers import Workers
from tfdist.synchronous.exchange.choice import choose
from tfdist.synchronous.step import xla
from tfdist.synchronous.step.find_coupling import find_coupling, form_of, one_step_per_call
from tfdist.synchronous.step.programs import Programs
from tfdist.synchronous.step.survey import survey
from tfdist.training.loss_watch import LossWatch


class TrainingProgram:
    """The program that trains a model on a feed.

    Args:
        model: a compiled, built `keras.Model`.
        feed: the `Feed` that is trained on.
        options: `StepOptions` whose `jit_compile` is resolved.
        run: the `FreshStart` or `SavedRun`.
        callbacks: all callbacks of the run.
        call_length: the `GivenLength` of the run.

    Attributes:
        call: the program, as in `synchronous.step.calls`.
        ends: the arguments `every` and `at` of `plan.calls`.
        hooks: the `on_train_measured` of the callbacks.
        watch: the `LossWatch`.
    """

    def __init__(self, model, feed, options, run, callbacks, call_length):
        self._model = model
        self._feed = feed
        self._options = options
        self._run = run
        self._callbacks = callbacks
        self._call_length = call_length
        self.hooks = measurement_hooks(callbacks)
        self.watch = LossWatch(model, run.weights, callbacks, is_compiled=options.jit_compile)
        self._make()

    def _make(self):
        model, feed, run = self._model, self._feed, self._run
        self._programs = programs = Programs.of(model)
        if programs.use(self._options):
            say(f"training: {self._call_length.describe()}, {xla.describe(model, feed, self._options)}")
        exchange = choose(model, programs.options, feed, run.folder, functools.partial(survey, model))
        watched = {"measured": bool(self.hooks), "in_call": run.in_call, "watch": self.watch.on_nan}
        self._program = programs.train(form_of(model, feed), exchange, **watched)
        self.call = self._call_length.timed(self._program)
        self.ends = _ends_of_calls(model, self._callbacks, exchange.one_step or one_step_per_call(model, feed))

    def renew(self):
        """Makes it anew if a callback has changed which layers are trained, and has dropped what was compiled."""
        if Programs.of(self._model) is not self._programs:
            find_coupling(self._model, self._feed)
            self._make()

    def announce_retracing(self):
        """Logs once that the program was traced again, which explains the lost time."""
        self._programs.announce_retracing(self._program)


def _ends_of_calls(model, callbacks, one_step):
    """Returns the arguments `every` and `at` of `plan.calls`."""
    ours = [item for item in callbacks if isinstance(item, Callback)]
    if Workers.of(model.distribute_strategy).count > 1:
        # If a call ended early on only one worker, the others would wait for it.
        ours = [item for item in ours if item.every_worker]
    every = [item.every_steps for item in ours if item.every_steps]
    every += [1] if one_step else []
    return every, [step for item in ours for step in item.at_steps]
