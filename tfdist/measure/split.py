"""Measures loops over parts of tfdist's step, of which `tfdist.measure.parts` takes differences."""

import contextlib
import time

import tensorflow as tf

from tfdist.gradients import update
from tfdist.internals.access import models
from tfdist.internals.access.tracing import compiled
from tfdist.strategy.replicas import run_on_replicas
from tfdist.synchronous.step import xla
from tfdist.synchronous.step.batch_norms import batch_norms_as_wanted
from tfdist.synchronous.step.measurements import NoClock
from tfdist.synchronous.step.programs import Programs


class Parts:
    """The loops over parts of a step, each compiled at its first use.

    They call what `fit` calls: `Step`, its exchange, `update`. All workers must run the same loops.

    Args:
        task: a `BenchTask`.
        model: a compiled model of the task that `tfdist.fit` has trained.
    """

    def __init__(self, task, model):
        self._strategy = task.strategy
        self._model = model
        self._form = task.source.form(task.strategy.num_replicas_in_sync)
        programs = Programs.of(model)
        self._step, self._exchange, self._options = programs.step, programs.exchange, programs.options
        self._variables = list(model.trainable_variables)
        self._computed = tf.Variable(0.0, trainable=False)
        self._compiled = {}
        self._reading = task.source.deliver(task.strategy)()

    @staticmethod
    def are_known(task, model):
        """Returns whether a step can be split: not an own `train_step`, an eager one, or whole calls of XLA."""
        whole = xla.compiles_calls(model, Programs.of(model).options) and task.source.is_in_memory(task.strategy)
        return not whole and not models.has_own(model, "train_step") and not model.run_eagerly

    def seconds(self, name, steps):
        """Returns seconds per step of one of `parts.LOOPS`; leaves the weights and the optimizer as they were."""
        with _unchanged(models.variables_alike(self._model)):
            self.run(name, 2)
            begin = time.perf_counter()
            self.run(name, steps)
            return (time.perf_counter() - begin) / steps

    def run(self, name, steps):
        """Runs a loop; returns the sum of its scalars, which makes TensorFlow compute every step."""
        return self._call(self.loop(name), steps)

    def loop(self, name):
        """Returns a loop as a compiled function (batches, steps) → a scalar, or several."""
        if name not in self._compiled:
            make = {"compute": self._compute, "alone": self._alone, "reduce": self._reduce, "kept": self._kept}
            self._compiled[name] = self._on_read() if name == "read" else self._on_kept(make[name])
        return self._compiled[name]

    def sent(self):
        """Returns (bytes summed over the replicas, bytes gathered from them) that each replica gives per step."""
        if self._step.traffic.known:
            return self._step.traffic.known

        def measure(batches, steps):
            del steps
            gradients = self._gradients(self._share(batches))
            local = self._strategy.experimental_local_results
            of_one = tf.nest.map_structure(lambda part: local(part)[0], gradients)
            return [tf.cast(count, tf.float64) for count in self._step.traffic.summed_and_gathered(of_one)]

        ((batches, count),) = self._reading.calls(1)
        with batch_norms_as_wanted(self._model, self._options):
            summed, gathered = compiled(measure)(batches, count)
        return float(summed), float(gathered)

    def _call(self, function, steps):
        with batch_norms_as_wanted(self._model, self._options):
            concrete = function.get_concrete_function(self._reading.spec, tf.TensorSpec([], tf.int64))
        calls = self._reading.calls(steps)
        return sum(float(concrete(batches, tf.constant(count, tf.int64))) for batches, count in calls)

    def _share(self, batches, place=0):
        """Returns the share of a step of a call; called in a function that is being traced."""
        _, make_share = self._reading.taker.next(self._strategy, batches, tf.convert_to_tensor(place, tf.int64))
        return make_share()

    def _on_kept(self, make_part):
        """Returns the loop of a part on one batch.

        Args:
            make_part: a function of the batch's share → the part, a function () → a scalar.
        """

        def loop(batches, steps):
            part = make_part(self._share(batches))
            return _summed_over(steps, lambda place: part())

        return compiled(loop)

    def _on_read(self):
        def loop(batches, steps):
            return _summed_over(steps, lambda place: self._train(self._share(batches, place)))

        return compiled(loop)

    def _compute(self, share):
        return lambda: _touch(self._gradients(share))

    def _alone(self, share):
        sums = self._summed(self._gradients(share))

        def part():
            # A control dependency on the gradients themselves would not keep them: TensorFlow drops unused values.
            with tf.control_dependencies([self._computed.assign(_touch(self._gradients(share)))]):
                there = run_on_replicas(self._strategy, _identities, sums)
            # All replicas have the same sums, so their weights stay equal although nothing is reduced here.
            update(self._strategy, self._model.optimizer, there, self._variables, lambda sums, variables: sums)
            return tf.zeros([])

        return part

    def _reduce(self, share):
        gradients = self._gradients(share)
        return lambda: _touch(self._summed(gradients))

    def _kept(self, share):
        return lambda: self._train(share)

    def _train(self, share):
        self._step.train(share, self._form, NoClock(), self._exchange)
        return tf.zeros([])

    def _gradients(self, share):
        return self._step.gradients(share, self._form, self._exchange)

    def _summed(self, gradients):
        def reduce(mine):
            return self._exchange.reduce(mine, self._variables)

        return run_on_replicas(self._strategy, reduce, gradients)


def _summed_over(steps, part):
    """Returns the sum of each step's scalar, from a loop in a function that is being traced."""
    beginning = (tf.constant(0, tf.int64), tf.zeros([]))
    _, total = tf.while_loop(
        lambda place, total: place < steps, lambda place, total: (place + 1, total + part(place)), beginning
    )
    return total


def _identities(values):
    return [
        None if value is None else tf.nest.map_structure(tf.identity, value, expand_composites=True) for value in values
    ]


def _touch(values):
    """Returns a sum of one element of each tensor of nested, per-replica values, so that all are computed."""
    parts = [part for part in tf.nest.flatten(values, expand_composites=True) if tf.is_tensor(part)]
    return tf.add_n([tf.cast(part[(0,) * part.shape.rank], tf.float32) for part in parts])


@contextlib.contextmanager
def _unchanged(variables):
    before = [variable.numpy() for variable in variables]
    yield
    for variable, value in zip(variables, before, strict=True):
        variable.assign(value)
