"""Runs whole calls compiled by XLA: many steps with batches from memory, gradients, update and metrics as one program.

In a small step, starting TensorFlow's operations costs more than computing them. XLA starts them once per call, but
compiles no collective and no input pipeline, so this is for one replica and for rows in memory.

Delete this when starting an operation costs TensorFlow no more than a small one computes.
"""

import contextlib
import functools
import time

import tensorflow as tf

from tfdist.data.delivery.delivery import Places
from tfdist.data.delivery.in_memory import RowPicker, RowReading
from tfdist.internals.access.tracing import compiled, named_alike
from tfdist.process.log import say
from tfdist.synchronous.step.measurements import Measured, NoClock

# TensorFlow raises one of these if XLA cannot compile a function; no step of it has been done then.
_NOT_COMPILED = (
    tf.errors.InvalidArgumentError,
    tf.errors.UnimplementedError,
    tf.errors.InternalError,
    tf.errors.NotFoundError,
)


class XlaCalls:
    """A program for training, as `Programs.train` returns, whose calls are compiled whole where they can be.

    Args:
        step: a `Step`.
        train: `step.train`, or a function with its arguments.
        form: the `Form` of the shares.
        otherwise: the program for what cannot be compiled whole.
        watch: an `OnNan`.
    """

    def __init__(self, step, train, form, otherwise, watch):
        self._otherwise = otherwise
        self.traced = otherwise.traced
        self._watch = watch
        self._sizes = set()
        self._is_refused = False

        def one_step(batches, place, last, *finite):
            # One replica has all rows of a batch.
            train(RowPicker(Places(1, 0, 1)).share(step.strategy, (batches, place)), form, NoClock())
            return place + 1, *watch.look(step, place + 1, last, *finite)

        def many_steps(batches, steps):
            body = functools.partial(one_step, batches)
            begin = (tf.constant(0, tf.int64), steps, *watch.begin())
            done, _, *finite = tf.while_loop(lambda place, last, *_: place < last, body, begin)
            return step.end_call(), done, *finite

        self._many_steps = compiled(many_steps, jit_compile=True, reduce_retracing=True)

    def __call__(self, reading, steps):
        """Trains on the next batches; returns (logs, steps done, a `measurements.Measured`)."""
        if self._is_refused or not isinstance(reading, RowReading):
            return self._otherwise(reading, steps)
        begin, dones, finites = time.perf_counter(), [], []
        try:
            for batches, count in reading.even_calls(steps):
                # Only for a call that traces, because no other thread traces at that time.
                naming = contextlib.nullcontext() if batches.size in self._sizes else named_alike()
                with naming:
                    logs, done, *finite = self._many_steps(batches, tf.constant(count, tf.int64))
                self._sizes.add(batches.size)
                dones.append(done)
                finites += finite
        except _NOT_COMPILED as error:
            if self._sizes:
                raise
            self._is_refused = True
            say(f"XLA cannot compile whole calls of this model, only its gradients: {_first_line(error)}")
            return self._otherwise(reading, steps)
        # No clock runs inside, because reading is a part of the program and no gradient is exchanged.
        sums = tf.constant((0.0, time.perf_counter() - begin, 0.0), tf.float64)
        return logs, steps, Measured(sums, (), self._watch.steps_finite(dones, finites))


def _first_line(error):
    return str(error.message).strip().partition("\n")[0]
