"""The step as compiled programs, traced once for a model."""

import functools

from tfdist.internals import models, runtime
from tfdist.log import say
from tfdist.training import exchange, xla
from tfdist.training.calls import ManySteps, Predictions, SingleSteps
from tfdist.training.meter import Clock, NoClock, StoppedClock
from tfdist.training.step import Step
from tfdist.training.xla_calls import XlaCalls

_ATTRIBUTE = "_tfdist_programs"


class Programs:
    """A model's programs: for each `Form` of shares functions of (`delivery.Reading`, steps), as in `calls`.

    Attributes:
        step: the `Step` that they run.
        choice: the `exchange.Choice` that training was asked for last.
        in_call: None, or a function (steps done in the call) that each step of training runs on this worker, for
            rehearsals.
    """

    def __init__(self, model, strategy):
        self._model = model
        self.step = Step(model, strategy)
        self._version = _version(model)
        self.choice = exchange.NOTHING
        self.in_call = None
        self._announced = False
        self._programs = {}

    @property
    def are_new(self):
        """Whether nothing was trained with them yet."""
        return not any(key[0] == "train" for key in self._programs)

    @classmethod
    def of(cls, model):
        """Gives the model's programs: those of an earlier call, unless what they were made for has changed."""
        programs = getattr(model, _ATTRIBUTE, None)
        if programs is None or programs._version != _version(model):
            programs = cls(model, model.distribute_strategy)
            setattr(model, _ATTRIBUTE, programs)
        return programs

    def train(self, form, choice=exchange.NOTHING, *, measured=False):
        """Gives the program that trains on the next batches.

        Args:
            form: the `Form` of their shares.
            choice: an `exchange.Choice`.
            measured: whether it measures itself as it does.
        """
        self.choice = choice
        return self._kept(("train", form, choice, measured), functools.partial(self._train, form, choice, measured))

    def _train(self, form, choice, measured):
        run = functools.partial(self.step.train, choice=choice)
        clock = _clock() if measured else NoClock()
        program = self._steps("train_step", run, form, clock, self.in_call)
        whole = self.in_call is None and xla.compiles_calls(self._model)
        return XlaCalls(self.step, run, form, program) if whole else program

    def test(self, form):
        """Gives the program that evaluates on the next batches."""
        return self._kept(("test", form), functools.partial(self._steps, "test_step", self.step.test, form, NoClock()))

    def _steps(self, method, run, form, clock, before=None):
        eager = self._model.run_eagerly
        if eager or models.has_own(self._model, method):
            return SingleSteps(self.step, run, form, clock, before, eager=eager)
        return ManySteps(self.step, run, form, clock, before)

    def predict(self, form, *, own_rows):
        """Gives a function (reading, steps) → list of what `Step.predict` gives of each batch, as many as there are."""
        options = {"own_rows": own_rows, "eager": self._model.run_eagerly}
        make = functools.partial(Predictions, self.step, form, **options)
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
        model.jit_compile,
        exchange.wish_of(model),
        tuple(layer.synchronized for layer in models.batch_norms(model)),
    )
