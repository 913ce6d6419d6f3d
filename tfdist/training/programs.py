"""The step as compiled programs, traced once for a model."""

import functools
import time

import tensorflow as tf

from tfdist.data.delivery import of_call, run_call, take
from tfdist.internals import models, runtime
from tfdist.internals.tracing import compiled
from tfdist.log import say
from tfdist.training import exchange, xla
from tfdist.training.meter import Clock, Measured, NoClock, StoppedClock
from tfdist.training.step import Step
from tfdist.training.xla_calls import XlaCalls

_ATTRIBUTE = "_tfdist_programs"
# What a call has measured before its first step.
_NOTHING = (0.0, 0.0, 0.0)


class Programs:
    """A model's functions: many steps in one call, with no work of Python's between them.

    `train` and `test` take (iterator, steps, form), `form` what `Source.form` gives, and give (logs, steps done, a
    `meter.Measured`): fewer steps than asked for where the data end. What is not measured is zero.

    Attributes:
        step: the `Step` that they run.
        choice: the `exchange.Choice` that training was asked for last.
    """

    def __init__(self, model, strategy):
        self._model = model
        self._strategy = strategy
        self.step = Step(model, strategy)
        self._version = _version(model)
        self.choice = exchange.NOTHING
        self._announced = False
        self._training = {}
        # None, or a function (steps done in the call) that each step of training runs on this worker, for rehearsals.
        self.in_call = None

    @property
    def are_new(self):
        """Whether nothing was trained with them yet."""
        return not self._training

    @classmethod
    def of(cls, model):
        """Gives the model's programs: those of an earlier call, unless what they were made for has changed."""
        programs = getattr(model, _ATTRIBUTE, None)
        if programs is None or programs._version != _version(model):
            programs = cls(model, model.distribute_strategy)
            setattr(model, _ATTRIBUTE, programs)
        return programs

    def train(self, choice=exchange.NOTHING, *, measured=False):
        """Gives the function that trains on the next batches.

        Args:
            choice: an `exchange.Choice`.
            measured: whether it measures itself as it does.
        """
        self.choice = choice
        key = measured, choice
        if key not in self._training:
            own = models.has_own(self._model, "train_step")
            clock = _clock() if measured else NoClock()
            step = functools.partial(self.step.train, choice=choice)
            program = self._program(step, own, clock, self.in_call)
            whole = self.in_call is None and xla.compiles_calls(self._model)
            self._training[key] = XlaCalls(self.step, step, program) if whole else program
        return self._training[key]

    @functools.cached_property
    def test(self):
        """Evaluates on the next batches."""
        return self._program(self.step.test, models.has_own(self._model, "test_step"), NoClock())

    @functools.cached_property
    def predict(self):
        """Gives (iterator, steps, form, own_rows) → what `Step.predict` gives of each batch, as many as there are."""
        one_step = self._compiled(self.step.predict)

        def call(iterator, steps, form, own_rows):
            return [one_step(share, form, own_rows=own_rows) for share in self._shares(iterator, steps, form)]

        return call

    def _shares(self, iterator, steps, form):
        """Yields so many shares, fewer where the data end."""
        batches = of_call(iterator, steps)
        for step in range(steps):
            share = self._next(batches, step, form)
            if form.may_end and not int(self._strategy.experimental_local_results(share.global_rows)[0]):
                return
            yield share

    def _next(self, batches, step, form):
        """Takes the share of a step of the call, also in a function being traced."""
        share = take(self._strategy, batches, step)
        return self._count_together(share) if form.counted_together else share

    @functools.cached_property
    def _count_together(self):
        return compiled(self.step.count_together, reduce_retracing=True)

    def _program(self, step, own, clock, before=None):
        # A step of the user's own gives logs of a form that nobody knows before: it stays outside loop and branch.
        return (self._step_by_step if own or self._model.run_eagerly else self._many_steps)(step, clock, before)

    def _step_by_step(self, step, clock, before):
        @self._compiled
        def one_step(share, form):
            arrived = clock.now(share)
            logs, work = step(share, form, clock)
            return logs, clock.add(tf.constant(_NOTHING, tf.float64), arrived, arrived, work)

        @self._compiled
        def end():
            self.step.end_call()
            return self.step.logs()

        def call(iterator, steps, form):
            last, done, sums, waiting = None, 0, tf.constant(_NOTHING, tf.float64), 0.0
            asked = time.perf_counter()
            for share in self._shares(iterator, steps, form):
                waiting += time.perf_counter() - asked
                if before:
                    before(done)
                last, work = one_step(share, form)
                self._announce_retracing(one_step)
                done += 1
                sums = clock.total(sums, work)
                asked = time.perf_counter()
            metrics = end() if done else {}
            return _logs_of_call(last, metrics), done, self._measured(tf.add(sums, (waiting, 0.0, 0.0)))

        return call

    def _many_steps(self, step, clock, before):
        def one_step(share, form, asked, done, sums):
            arrived = clock.now(share)
            if before:
                tf.py_function(before, [done], [])
            _, work = step(share, form, clock)
            return done + 1, clock.add(sums, asked, arrived, work)

        def next_step(batches, form, place, done, sums):
            asked = clock.now()
            share = self._next(batches, place, form)
            run = functools.partial(one_step, share, form, asked, done, sums)
            if not form.may_end:
                return place + 1, *run()
            is_there = self._strategy.experimental_local_results(share.global_rows)[0] > 0
            return place + 1, *tf.cond(is_there, run, lambda: (done, sums))

        def many_steps(batches, steps, form):
            nothing = (tf.constant(0, tf.int64), tf.constant(0, tf.int64), tf.constant(_NOTHING, tf.float64))
            body = functools.partial(next_step, batches, form)
            _, done, sums = tf.while_loop(lambda place, *_: place < steps, body, nothing)
            self.step.end_call()
            return self.step.logs(), done, sums

        program = compiled(many_steps, reduce_retracing=True)

        def call(iterator, steps, form):
            logs, done, sums = run_call(program, iterator, steps, form)
            self._announce_retracing(program)
            return logs, int(done) if form.may_end else steps, self._measured(sums)

        return call

    def _measured(self, sums):
        return Measured(sums, self.step.traffic.sparse)

    def _announce_retracing(self, function):
        """Says once that a function was traced again: somebody may wonder where the time went."""
        if self._announced or self._model.run_eagerly or function.experimental_get_tracing_count() < 2:
            return
        self._announced = True
        say(
            "the batches have another shape or type than before, so the step was traced again, which takes time. Where "
            "this happens often, give batches of one form. It is said once."
        )

    def _compiled(self, function):
        return function if self._model.run_eagerly else compiled(function, reduce_retracing=True)


def _clock():
    return StoppedClock() if runtime.is_deterministic() else Clock()


def _logs_of_call(last, metrics):
    """Gives the metrics, or the logs of a user's own last step where it returned others than these, as in Keras."""
    if last is None or set(last[0]) == set(metrics):
        return metrics
    logs, differ = last
    return {name: value if differ[name] else metrics[name] for name, value in logs.items()}


def _version(model):
    return (
        # The object, not its id: a later object may get the id of one that is gone.
        models.compile_token(model),
        model.run_eagerly,
        model.jit_compile,
        exchange.wish_of(model),
        tuple(layer.synchronized for layer in models.batch_norms(model)),
    )
