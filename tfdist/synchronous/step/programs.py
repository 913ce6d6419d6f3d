"""Keeps the compiled programs of a model's step, each traced once."""

import dataclasses
import functools

from tfdist.internals.access import models, runtime
from tfdist.internals.access.kept import kept
from tfdist.options.step import StepOptions
from tfdist.process.log import say
from tfdist.synchronous.exchange.exchange import AllReduce
from tfdist.synchronous.step import xla
from tfdist.synchronous.step.calls import ManySteps, OnNan, Predictions, SingleSteps
from tfdist.synchronous.step.measurements import Clock, NoClock, StoppedClock
from tfdist.synchronous.step.step import Step
from tfdist.synchronous.step.xla_calls import XlaCalls


class Programs:
    """A model's programs: for each `Form` of shares functions of (`delivery.Reading`, steps), as in `calls`.

    Attributes:
        step: the `Step` of the last `use`; before that, the one for evaluation.
        options, exchange: the `StepOptions` and the `exchange.AllReduce` of `step`.
    """

    def __init__(self, model, strategy):
        self._model = model
        self._strategy = strategy
        self._steps = {}
        self._programs = {}
        self._announced = False
        self.options, self.exchange = StepOptions(jit_compile=False), AllReduce()
        self.step = self._evaluation = Step(model, strategy, self.options)

    @classmethod
    def of(cls, model):
        """Returns the model's programs: those of an earlier call, unless its version has changed."""
        make = functools.partial(cls, model, model.distribute_strategy)
        return kept(model, "programs", make, version=_version(model))

    def use(self, options):
        """Makes `step` the `Step` that trains with these options; returns whether it is new.

        Args:
            options: `StepOptions` whose `jit_compile` is resolved.
        """
        self.options = dataclasses.replace(options, steps_per_execution=None, on_nan="stop")
        is_new = self.options not in self._steps
        if is_new:
            self._steps[self.options] = Step(self._model, self._strategy, self.options)
        self.step = self._steps[self.options]
        return is_new

    def train(self, form, exchange, *, measured=False, in_call=None, watch=OnNan.UNWATCHED):
        """Returns the program that trains on the next batches, with the step of the last `use`.

        Args:
            form: the `Form` of their shares.
            exchange: an `exchange.AllReduce`.
            measured: whether the program measures its time and bytes.
            in_call: None, or a function (steps done in the call) that each step runs on this worker, for fault
                injection. Such a program is not kept, because the next run has its own function or none.
            watch: an `OnNan`.
        """
        self.exchange = exchange
        make = functools.partial(self._train, form, exchange, measured, in_call, watch)
        return make() if in_call else self._kept(("train", form, exchange, measured, watch, self.options), make)

    def _train(self, form, exchange, measured, in_call, watch):
        step = self.step
        run = functools.partial(step.train, exchange=exchange)
        clock = _clock() if measured else NoClock()
        program = self._calls("train_step", step, run, form, clock, in_call, watch)
        whole = in_call is None and xla.compiles_calls(self._model, self.options)
        return XlaCalls(step, run, form, program, watch) if whole else program

    def test(self, form):
        """Returns the program that evaluates on the next batches."""
        return self._kept(("test", form), functools.partial(self._test, form))

    def _test(self, form):
        return self._calls("test_step", self._evaluation, self._evaluation.test, form, NoClock())

    def _calls(self, method, step, run, form, clock, before=None, watch=OnNan.UNWATCHED):
        eager = self._model.run_eagerly
        if eager or models.has_own(self._model, method):
            return SingleSteps(step, run, form, clock, before, eager=eager)
        return ManySteps(step, run, form, clock, before, watch)

    def predict(self, form, *, own_rows):
        """Returns a function (reading, steps) → list of the results of `Step.predict`, as many as there are batches."""
        options = {"own_rows": own_rows, "eager": self._model.run_eagerly}
        make = functools.partial(Predictions, self._evaluation, form, **options)
        return self._kept(("predict", form, own_rows), make)

    def _kept(self, key, make):
        if key not in self._programs:
            self._programs[key] = make()
        return self._programs[key]

    def announce_retracing(self, program):
        """Logs once that a program was traced again, which explains the lost time."""
        if self._announced or program.traced.traces < 2:
            return
        self._announced = True
        say(
            "the step was traced again, which takes time: the batches have another shape or type than before. If this "
            "happens often, pass batches of one form. This line is logged once."
        )


def _clock():
    return StoppedClock() if runtime.is_deterministic() else Clock()


def _version(model):
    # The object, not its id: a later object may get the id of one that is gone.
    return models.compile_token(model), model.run_eagerly
