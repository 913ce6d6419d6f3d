"""Whole calls compiled by XLA: batches out of memory, gradients, update and metrics, many steps long, as one program.

On a small step it costs more to start TensorFlow's operations than to compute them. XLA starts them once a
call, but compiles no collective and no input pipeline: so this is for one replica, and for rows in memory.
"""

import contextlib
import functools
import time

import numpy as np
import tensorflow as tf

from tfdist.data.delivery.delivery import Places
from tfdist.data.delivery.in_memory import RowPicker, RowReading
from tfdist.internals.access.tracing import compiled, named_alike
from tfdist.process.log import say
from tfdist.synchronous.step.meter import Measured, NoClock

# What TensorFlow raises where XLA cannot compile a function; no step of it has been done then.
_NOT_COMPILED = (
    tf.errors.InvalidArgumentError,
    tf.errors.UnimplementedError,
    tf.errors.InternalError,
    tf.errors.NotFoundError,
)


class XlaCalls:
    """A program for training as `Programs.train` gives, where a call can be compiled whole.

    Args:
        step: a `Step`.
        train: `step.train`, or what stands for it.
        form: the `Form` of the shares.
        otherwise: the program for what cannot be compiled whole.
    """

    def __init__(self, step, train, form, otherwise):
        self._otherwise = otherwise
        self.traced = otherwise.traced
        self._sizes = set()
        self._is_refused = False
        self._warned = False

        def one_step(batches, place):
            # One replica has all rows of a batch.
            train(RowPicker(Places(1, 0, 1)).share(step.strategy, (batches, place)), form, NoClock())
            return (place + 1,)

        def many_steps(batches, steps):
            body = functools.partial(one_step, batches)
            tf.while_loop(lambda place: place < steps, body, (tf.constant(0, tf.int64),))
            step.end_call()
            return step.logs()

        self._many_steps = compiled(many_steps, jit_compile=True, reduce_retracing=True)

    def __call__(self, reading, steps):
        """Trains on the next batches; gives (logs, steps done, a `meter.Measured`)."""
        if self._is_refused or not isinstance(reading, RowReading):
            return self._otherwise(reading, steps)
        begin = time.perf_counter()
        try:
            for batches, count in reading.even_calls(steps):
                # Only where it is traced, because nobody else traces meanwhile.
                naming = contextlib.nullcontext() if batches.size in self._sizes else named_alike()
                with naming:
                    logs = self._many_steps(batches, tf.constant(count, tf.int64))
                self._sizes.add(batches.size)
        except _NOT_COMPILED as error:
            if self._sizes:
                raise
            self._is_refused = True
            say(f"XLA cannot compile whole calls of this model, so only its gradients are: {_first_line(error)}")
            return self._otherwise(reading, steps)
        self._warn_of_nan(logs)
        # No clock runs inside: reading is a part of the program, and no gradient crosses anything.
        sums = tf.constant((0.0, time.perf_counter() - begin, 0.0), tf.float64)
        return logs, steps, Measured(sums, ())

    def _warn_of_nan(self, logs):
        """Says once what XLA does not say: it looks at no label and no index, where TensorFlow would refuse."""
        if not self._warned and "loss" in logs and np.isnan(logs["loss"]):
            self._warned = True
            say(
                "the loss is NaN. XLA does not check labels and indices: use jit_compile=False to learn whether one is "
                "out of range."
            )


def _first_line(error):
    return str(error.message).strip().partition("\n")[0]
