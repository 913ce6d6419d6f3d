"""Where the time of a step goes: the parts of tfdist's step, each alone in a loop of one call."""

import statistics
import time

import tensorflow as tf

from tfdist.collectives import sum_over_replicas
from tfdist.data import delivery
from tfdist.training.local_statistics import LocalStatistics
from tfdist.training.meter import NoClock
from tfdist.training.step import Step, replica_gradients


def split_step(task, model, fit_seconds, steps):
    """Measures the parts.

    Args:
        task: a `Task`.
        model: the model that `tfdist.fit` has trained.
        fit_seconds: of one step of that `fit`.
        steps: of a loop.

    Returns:
        name → seconds of a step: input, compute, reduce, update, host, and whole, their sum.
    """
    parts = Parts(task, model)
    compute, reduce, kept, read = (_seconds(loop, steps) for loop in parts.loops())
    return attribute(compute=compute, reduce=reduce, kept=kept, read=read, fit=fit_seconds)


def attribute(*, compute, reduce, kept, read, fit):
    """Gives each part what the loops that hold it take more than those that do not.

    Args:
        compute, reduce: seconds of the gradients and of the all-reduce alone.
        kept: of the whole step on one kept batch.
        read: of the whole step on batches that are read.
        fit: of a step of `fit`.
    """
    differences = {"input": read - kept, "update": kept - compute - reduce, "host": fit - read}
    parts = {"compute": compute, "reduce": reduce} | {name: max(0.0, s) for name, s in differences.items()}
    return {name: parts[name] for name in ("input", "compute", "reduce", "update", "host")} | {"whole": fit}


class Parts:
    """The loops.

    Args:
        task: a `Task`.
        model: a built, compiled model of it.
    """

    def __init__(self, task, model):
        self._strategy = task.strategy
        self._model = model
        self._source = task.source
        self._form = task.source.form(task.strategy.num_replicas_in_sync)
        self._step = Step(model, task.strategy)
        self._local = LocalStatistics(model, task.strategy)
        self._variables = list(model.trainable_variables)

    def loops(self):
        """Yields the functions (steps) → a scalar: compute, reduce, the step on a kept batch, on batches read."""
        strategy = self._strategy

        def compute(share):
            return strategy.run(self._replica_compute, args=(share,))

        def reduce(share):
            return strategy.run(self._replica_reduce, args=(share,))

        def whole(share):
            self._step.train(share, self._form, NoClock())
            return tf.zeros([])

        for part in (compute, reduce, whole):
            yield self._loop_on_kept(part)
        yield self._loop_on_read(whole)

    def _loop_on_kept(self, part):
        iterator = self._source.iterator(self._strategy)

        @tf.function
        def loop(steps):
            share = delivery.take(self._strategy, iterator)
            total = tf.zeros([])
            for _ in tf.range(steps):
                # Kept alive by the sum, or nothing would be computed.
                total += self._first(part(share))
            return total

        return loop

    def _loop_on_read(self, part):
        iterator = self._source.iterator(self._strategy)

        @tf.function
        def loop(steps):
            total = tf.zeros([])
            for _ in tf.range(steps):
                total += self._first(part(delivery.take(self._strategy, iterator)))
            return total

        return loop

    def _first(self, value):
        return self._strategy.experimental_local_results(value)[0]

    def _replica_compute(self, share):
        gradients = replica_gradients(self._model, self._variables, share, self._form, self._local)
        return tf.add_n([_touch(gradient) for gradient in gradients if gradient is not None])

    def _replica_reduce(self, share):
        del share
        sums = sum_over_replicas([tf.convert_to_tensor(variable) for variable in self._variables])
        return tf.add_n([_touch(part) for part in sums])


def _touch(gradient):
    """Gives one element of a gradient: enough that all of it is computed."""
    dense = tf.convert_to_tensor(gradient)
    return tf.cast(tf.reshape(dense, [-1])[0], tf.float32)


def _seconds(loop, steps):
    count = tf.constant(steps)
    float(loop(tf.constant(2)))
    samples = []
    for _ in range(3):
        begin = time.perf_counter()
        float(loop(count))
        samples.append((time.perf_counter() - begin) / steps)
    return statistics.median(samples)
