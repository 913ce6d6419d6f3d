"""Runs calls of a compiled program: many steps of a model in one loop, or one step after the other.

Both take (`delivery.Reading`, steps) and return (logs, steps done, a `measurements.Measured`). They do fewer steps than
asked for if the data end. What is not measured is zero.
"""

import enum
import functools
import time
import weakref

import numpy as np
import tensorflow as tf

from tfdist.data.delivery import delivery
from tfdist.internals.access.tracing import compiled, named_alike
from tfdist.synchronous.step.measurements import Measured

# What a call has measured before its first step.
_NOTHING = (0.0, 0.0, 0.0)
# On GPUs, TensorFlow keeps int32 on the host, and int64 on the device: a loop that counts in int64 waits for the device
# before each step.
_STEPS = tf.TensorSpec([], tf.int32)


class OnNan(enum.Enum):
    """What a call does about a loss that is not finite.

    Attributes:
        UNWATCHED: nothing.
        COUNT: it counts the steps before.
        END: it ends after that step, so that the weights are those of that step.
    """

    UNWATCHED = enum.auto()
    COUNT = enum.auto()
    END = enum.auto()

    def begin(self):
        """Returns what a compiled loop must carry: for COUNT, the steps before a loss that is not finite."""
        return [tf.constant(0, tf.int64)] if self is OnNan.COUNT else []

    def look(self, step, done, last, *finite):
        """Looks at the loss after a step within a compiled loop.

        Args:
            step: the `Step`.
            done, last: scalars, the steps done in the call, and how many it is to do.
            finite: what `begin` or this method returned before.

        Returns:
            (last, *finite), as they are after the step.
        """
        if self is OnNan.UNWATCHED:
            return last, *finite
        is_finite = step.loss_is_finite()
        if self is OnNan.END:
            return (tf.where(is_finite, last, done),)
        return last, tf.where(is_finite, tf.cast(done, tf.int64), *finite)

    def steps_finite(self, dones, finite):
        """Returns `Measured.steps_finite` of a call.

        Args:
            dones: the steps that each of its loops has done.
            finite: what its loops carried at their ends.
        """
        return (lambda: sum(map(int, dones)) - 1) if self is OnNan.END else lambda: sum(map(int, finite))


class Traced:
    """A function that is traced for each kind of data; a call finds its trace without comparing its arguments.

    Args:
        make: a function `delivery.Taker` → the function to trace.
        specs: a function `delivery.Reading` → the specs of its arguments, None for one that is unknown in advance.
        eager: whether the function runs eagerly, untraced.
    """

    def __init__(self, make, specs, *, eager=False):
        self._make = make
        self._specs = specs
        self._eager = eager
        self._functions = {}
        # A weak reference, because otherwise the data would live as long as the model.
        self._last = lambda: None, None

    def of(self, reading):
        """Returns the function to call for a `Reading`."""
        last, function = self._last
        if last() is not reading:
            function = self._function(reading)
            self._last = weakref.ref(reading), function
        return function

    def _function(self, reading):
        if reading.taker not in self._functions:
            function = self._make(reading.taker)
            self._functions[reading.taker] = function if self._eager else compiled(function, reduce_retracing=True)
        function, specs = self._functions[reading.taker], self._specs(reading)
        if self._eager or None in specs:
            return function
        with named_alike():
            return function.get_concrete_function(*specs)

    @property
    def traces(self):
        """The number of times that the function was traced."""
        return 0 if self._eager else sum(each.experimental_get_tracing_count() for each in self._functions.values())


class ManySteps:
    """Many steps in one compiled loop, without Python work between them.

    Args:
        step: a `Step`.
        run: the step's method to run, (share, form, clock) → (None, `measurements.Work`).
        form: the `Form` of the shares.
        clock: a `measurements.Clock` or its stand-in.
        before: None, or a function (steps done in the call) that each step runs on this worker, for fault injection.
        watch: an `OnNan`.
    """

    def __init__(self, step, run, form, clock, before=None, watch=OnNan.UNWATCHED):
        self._step = step
        self._run = run
        self._form = form
        self._clock = clock
        self._before = before
        self._watch = watch
        self.traced = Traced(self._make, lambda reading: (reading.spec, _STEPS))

    def __call__(self, reading, steps):
        """Runs the next steps."""
        function = self.traced.of(reading)
        done, sums, finite = 0, [], []
        for batches, count in reading.calls(steps):
            logs, call_done, call_sums, *call_finite = function(batches, tf.constant(count, _STEPS.dtype))
            done += count if call_done is None else int(call_done)
            sums.append(call_sums)
            finite += call_finite
            if self._watch is OnNan.END and call_done < count:
                break
        total = sums[0] if len(sums) == 1 else tf.add_n(sums)
        return logs, done, Measured(total, self._step.traffic.sparse, self._watch.steps_finite([done], finite))

    def _make(self, taker):
        strategy, clock = self._step.strategy, self._clock

        def one_step(batches, done, last, sums, *finite):
            asked = clock.now()
            has_batch, make_share = taker.next(strategy, batches, done)

            def run():
                share = make_share()
                arrived = clock.now(share)
                if self._before:
                    tf.py_function(self._before, [done], [])
                _, work = self._run(share, self._form, clock)
                after = done + 1
                end, *now_finite = self._watch.look(self._step, after, last, *finite)
                return after, end, clock.add(sums, asked, arrived, work), *now_finite

            # Without a batch `last` becomes `done`, which ends the loop.
            return run() if has_batch is None else tf.cond(has_batch, run, lambda: (done, done, sums, *finite))

        def many_steps(batches, steps):
            done, _, sums, *finite = tf.while_loop(
                lambda done, last, *_: done < last,
                lambda *state: one_step(batches, *state),
                (tf.constant(0, _STEPS.dtype), steps, tf.constant(_NOTHING, tf.float64), *self._watch.begin()),
            )
            logs = self._step.end_call()
            has_ends = taker.may_end or self._watch is OnNan.END
            return logs, done if has_ends else None, sums, *finite

        return many_steps


class SingleSteps:
    """One step after the other, each compiled unless the model runs eagerly: for the user's own step methods.

    The form of their logs is unknown in advance, so they cannot run inside a compiled loop or branch.

    Args:
        step, form, clock, before: as in `ManySteps`.
        run: as in `ManySteps`, but it may return logs in place of None.
        eager: whether the model runs eagerly.
    """

    def __init__(self, step, run, form, clock, before=None, *, eager=False):
        self._step = step
        self._run = run
        self._form = form
        self._clock = clock
        self._before = before
        self._end = step.end_call if eager else compiled(step.end_call)
        self.traced = Traced(self._make, lambda reading: (reading.element_spec,), eager=eager)

    def __call__(self, reading, steps):
        """Runs the next steps."""
        function = self.traced.of(reading)
        last, done, sums, waiting = None, 0, tf.constant(_NOTHING, tf.float64), 0.0
        losses = []
        asked = time.perf_counter()
        for element in delivery.elements(self._step.strategy, reading, steps):
            waiting += time.perf_counter() - asked
            if self._before:
                self._before(done)
            last, work = function(element)
            done += 1
            losses.append(self._losses(last))
            sums = self._clock.total(sums, work)
            asked = time.perf_counter()
        metrics = self._end() if done else {}
        sums = tf.add(sums, (waiting, 0.0, 0.0))
        return (
            _logs_of_call(last, metrics),
            done,
            Measured(sums, self._step.traffic.sparse, functools.partial(_steps_finite, losses)),
        )

    def _losses(self, last):
        """Returns what a step has logged of its loss, without an operation of its own in the compiled step."""
        if last is not None:
            return [value for name, value in last[0].items() if "loss" in name]
        return [tf.where(self._step.loss_is_finite(), 0.0, np.nan)]

    def _make(self, taker):
        def one_step(element):
            share = taker.share(self._step.strategy, element)
            arrived = self._clock.now(share)
            logs, work = self._run(share, self._form, self._clock)
            return logs, self._clock.add(tf.constant(_NOTHING, tf.float64), arrived, arrived, work)

        return one_step


def _logs_of_call(last, metrics):
    """Returns the metrics or, if the last step's logs have other names, those logs, as Keras does."""
    if last is None or set(last[0]) == set(metrics):
        return metrics
    logs, differ = last
    return {name: value if differ[name] else metrics[name] for name, value in logs.items()}


def _steps_finite(losses):
    """Returns the number of steps before the first one of which a loss is not finite."""
    bad = (place for place, values in enumerate(losses) if not all(np.isfinite(value).all() for value in values))
    return next(bad, len(losses))


class Predictions:
    """A program for the outputs of the next batches, one batch after the other.

    Args:
        step: a `Step`.
        form: the `Form` of the shares.
        own_rows: as in `Step.predict`.
        eager: whether the model runs eagerly.
    """

    def __init__(self, step, form, *, own_rows, eager):
        self._step = step
        self._form = form
        self._own_rows = own_rows
        self.traced = Traced(self._make, lambda reading: (reading.element_spec,), eager=eager)

    def __call__(self, reading, steps):
        """Returns the results of `Step.predict` for the next batches, as many as there are."""
        function = self.traced.of(reading)
        return [function(element) for element in delivery.elements(self._step.strategy, reading, steps)]

    def _make(self, taker):
        def one_step(element):
            return self._step.predict(taker.share(self._step.strategy, element), self._form, own_rows=self._own_rows)

        return one_step
