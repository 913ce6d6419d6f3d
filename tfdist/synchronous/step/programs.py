"""The step as compiled programs, traced once for a model."""

import dataclasses
import functools

from tfdist.internals.access import models, runtime
from tfdist.options.step import StepOptions
from tfdist.process.log import say
from tfdist.synchronous.exchange import exchange
from tfdist.synchronous.step import xla
from tfdist.synchronous.step.calls import ManySteps, Predictions, SingleSteps
from tfdist.synchronous.step.meter import Clock, NoClock, StoppedClock
from tfdist.synchronous.step.step import Step
from tfdist.synchronous.step.xla_calls import XlaCalls

_ATTRIBUTE = "_tfdist_programs"


class Programs:
    """A model's programs: for each `Form` of shares functions of (`delivery.Reading`, steps), as in `calls`.

    Attributes:
        step: the `Step` that training was asked for last; before, one for evaluation.
        version: what they were traced for.
        options, choice: the `StepOptions` and the `exchange.Choice` of it.
    """

    def __init__(self, model, strategy):
        self._model = model
        self._strategy = strategy
        self.version = _version(model)
        self._steps = {}
        self._programs = {}
        self._announced = False
        self.options, self.choice = StepOptions(jit_compile=False), exchange.NOTHING
        self.step = self._evaluation = Step(model, strategy, self.options)

    @classmethod
    def of(cls, model):
        """Gives the model's programs: those of an earlier call, unless what they were made for has changed."""
        programs = getattr(model, _ATTRIBUTE, None)
        if programs is None or programs.version != _version(model):
            programs = cls(model, model.distribute_strategy)
            setattr(model, _ATTRIBUTE, programs)
        return programs

    def step_for(self, options):
        """Gives the `Step` that trains as options want it, and whether it is a new one.

        Args:
            options: `StepOptions` whose `jit_compile` is resolved.
        """
        self.options = dataclasses.replace(options, steps_per_execution=None)
        is_new = self.options not in self._steps
        if is_new:
            self._steps[self.options] = Step(self._model, self._strategy, self.options)
        self.step = self._steps[self.options]
        return self.step, is_new

    def train(self, form, choice=exchange.NOTHING, *, measured=False, in_call=None):
        """Gives the program that trains on the next batches, with the step of the last `step_for`.

        Args:
            form: the `Form` of their shares.
            choice: an `exchange.Choice`.
            measured: whether it measures itself as it does.
            in_call: None, or a function (steps done in the call) that each step runs on this worker, for rehearsals.
                Such a program is not kept: the next run has its own function or none.
        """
        self.choice = choice
        make = functools.partial(self._train, form, choice, measured, in_call)
        return make() if in_call else self._kept(("train", form, choice, measured, self.options), make)

    def _train(self, form, choice, measured, in_call):
        step = self.step
        run = functools.partial(step.train, choice=choice)
        clock = _clock() if measured else NoClock()
        program = self._calls("train_step", step, run, form, clock, in_call)
        whole = in_call is None and xla.compiles_calls(self._model, self.options)
        return XlaCalls(step, run, form, program) if whole else program

    def test(self, form):
        """Gives the program that evaluates on the next batches."""
        return self._kept(("test", form), functools.partial(self._test, form))

    def _test(self, form):
        return self._calls("test_step", self._evaluation, self._evaluation.test, form, NoClock())

    def _calls(self, method, step, run, form, clock, before=None):
        eager = self._model.run_eagerly
        if eager or models.has_own(self._model, method):
            return SingleSteps(step, run, form, clock, before, eager=eager)
        return ManySteps(step, run, form, clock, before)

    def predict(self, form, *, own_rows):
        """Gives a function (reading, steps) → list of what `Step.predict` gives of each batch, as many as there are."""
        options = {"own_rows": own_rows, "eager": self._model.run_eagerly}
        make = functools.partial(Predictions, self._evaluation, form, **options)
        return self._kept(("predict", form, own_rows), make)

    def _kept(self, key, make):
        if key not in self._programs:
            self._programs[key] = make()
        return self._programs[key]

    def announce_retracing(self, program):
        """Says once that a program was traced again: somebody may wonder where the time went."""
        if self._announced or program.traced.traces < 2:
            return
        self._announced = True
        say(
            "the batches have another shape or type than before, so the step was traced again, which takes time. Where "
            "this happens often, give batches of one form. It is said once."
        )


def _clock():
    return StoppedClock() if runtime.is_deterministic() else Clock()


def _version(model):
    return (
        # The object, not its id: a later object may get the id of one that is gone.
        models.compile_token(model),
        model.run_eagerly,
    )
