"""The comparison itself: it builds the models, trains them case by case, and returns their differences."""

import contextlib
import dataclasses
import functools
import re
import textwrap

import keras
import tensorflow as tf

from tfdist.internals.access import models
from tfdist.process.errors import TfdistError
from tfdist.process.log import say
from tfdist.strategy import hardware
from tfdist.verify import compare
from tfdist.verify.batches import make_cases
from tfdist.verify.trial import NotComparable, Trial


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The findings of a comparison.

    Attributes:
        results: one `Result` per case.
        tolerances: quantity → the largest relative difference that counts as rounding; None if it cannot be compared.
        replicas: number of replicas that were compared with one device.
        dtype: the coarsest type of numbers in the model.
        random_layers: layers that were called as in inference.
        batch_norms: BatchNormalization layers that take statistics over one replica's rows.
        own_train_step: whether the model has a train_step of its own.
        not_float64: the reason if the comparison could not be in double precision, or "".
        explanations: what tfdist said of the model that may explain a difference.
    """

    results: list[compare.Result]
    tolerances: dict[str, float | None]
    replicas: int
    dtype: str
    random_layers: list[str]
    batch_norms: list[str]
    own_train_step: bool
    not_float64: str = ""
    explanations: tuple[str, ...] = ()

    @property
    def certain(self):
        """Whether one device gives the same loss and gradients for rows in another order."""
        return None not in (self.tolerances["loss"], self.tolerances["gradients"])

    @property
    def equal(self):
        """Whether the replicas give what one device gives, in every case."""
        return self.certain and all(result.equal(self.tolerances) for result in self.results)


def verify_model(build, strategy, *, steps=3, seed=0, sync_batchnorm=True):
    """Compares training on a strategy's replicas with plain Keras on one device.

    Args:
        build: a function () → (model, data), called anew for each model: a compiled `keras.Model`, and (x, y) or
            (x, y, sample_weight) arrays, a `tf.data.Dataset` of batches or a `Source`, of which only the first
            batch is used.
        strategy: a `tf.distribute.Strategy` of two or more replicas.
        steps: steps of a training.
        seed: for the weights.
        sync_batchnorm: as in `tfdist.fit`.

    Returns:
        A `Comparison`.

    Raises:
        NotComparable: `build` returned something else, or its model cannot be trained on one device.
    """
    make_pair = functools.partial(_Pair, build, seed=seed, sync_batchnorm=sync_batchnorm)
    make_reference = functools.partial(_Reference, make_pair, replicas=strategy.num_replicas_in_sync, steps=steps)
    with contextlib.ExitStack() as precision:
        precision.enter_context(_double_precision())
        reason = ""
        try:
            reference = make_reference()
        except Exception as error:
            precision.close()
            reason = _in_one_line(error.__cause__ or error)
            reference = make_reference()
        return _compare(reference, make_pair, strategy, reason)


def logical_replicas(count):
    """Makes a strategy over logical CPU devices, which round alike; call it before TensorFlow's runtime starts."""
    tf.config.set_visible_devices([], "GPU")
    devices = hardware.logical_cpus(count)
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=tf.distribute.ReductionToOneDevice())


class _Pair:
    """Three models of one function in one strategy: for gradients, for layers, and to train with the user's optimizer.

    The layers' outputs need eager steps, in which less is known of a user's own `train_step` than in a graph.
    """

    def __init__(self, build, place, **arguments):
        self.step, self.look, self.run = (Trial(build, place, **arguments) for _ in range(3))
        self.step.record_gradients()
        self.look.record_gradients(eager=True)
        self.model, self.data = self.run.model, self.run.data
        self.random_layers = self.run.random_layers

    def prepare(self, spec, start_as=None):
        self.step.prepare(spec, start_as and start_as.step)
        self.look.prepare(spec, start_as and start_as.look)
        self.run.prepare(spec, start_as and start_as.run)

    @property
    def explanations(self):
        return dict.fromkeys([*self.step.explanations, *self.run.explanations])

    def evidence(self, batch, batches, rows_of_replicas):
        logs, gradients = self.step.gradients(batch)
        outputs = self.look.outputs(batch, rows_of_replicas)
        return compare.Evidence(logs, gradients, outputs), self.run.weights(batches)


class _Reference:
    """The results of plain Keras on one device for each case, and the tolerances from its rounding."""

    def __init__(self, make_pair, *, replicas, steps):
        try:
            self.pair = make_pair(tf.distribute.get_strategy())
            self.cases = make_cases(self.pair.data, replicas=replicas, steps=steps)
            self.pair.prepare(self.cases[0].batch.element_spec)
            self.dtype = compare.coarsest(models.number_types(self.pair.model))
            self.evidence = [self._train(case) for case in self.cases]
            self.tolerances = self._tolerances()
        except TfdistError:
            raise
        except Exception as error:
            raise NotComparable(f"Keras itself cannot train the model on one device: {_in_one_line(error)}") from error

    def _train(self, case):
        say(f"training on one device, {case.rows} rows a batch.")
        return self.pair.evidence(case.batch, case.batches, [case.rows])

    def _tolerances(self):
        noise = dict.fromkeys(compare.QUANTITIES, 0.0)
        for case, evidence in zip(self.cases, self.evidence, strict=True):
            if case.rows == 1:
                continue
            say(f"training on one device, {case.rows} rows a batch in reverse order: the differences are rounding.")
            other = self.pair.evidence(case.batch_reversed, case.batches_reversed, [case.rows])
            for name, difference in compare.differences(evidence, other, dtype=self.dtype).items():
                noise[name] = max(noise[name], difference.size)
        return {name: compare.tolerance(self.dtype, size) for name, size in noise.items()}


def _compare(reference, make_pair, strategy, reason):
    replicas = strategy.num_replicas_in_sync
    model, explanations = reference.pair.model, ()
    try:
        pair = make_pair(strategy)
        pair.prepare(reference.cases[0].batch.element_spec, start_as=reference.pair)
        results = [_result(reference, index, pair, replicas) for index in range(len(reference.cases))]
        model, explanations = pair.model, tuple(pair.explanations)
    except NotComparable:
        raise
    except Exception as error:
        results = [compare.Result(case.rows, {}, error=_in_one_line(error)) for case in reference.cases]
    return Comparison(
        results,
        reference.tolerances,
        replicas,
        reference.dtype,
        reference.pair.random_layers,
        [layer.path for layer in models.batch_norms(model) if not layer.synchronized],
        models.has_own(model, "train_step"),
        reason,
        explanations,
    )


def _result(reference, index, pair, replicas):
    case, one = reference.cases[index], reference.evidence[index]
    say(f"training on {replicas} replicas, {case.rows} rows a batch.")
    try:
        many = pair.evidence(case.batch, case.batches, case.rows_of_replicas(replicas))
    except Exception as error:
        return compare.Result(case.rows, {}, error=_in_one_line(error))
    return compare.Result(
        case.rows,
        compare.differences(one, many, dtype=reference.dtype),
        compare.first_layer(one[0], many[0], dtype=reference.dtype),
        compare.ratio(one[0], many[0]),
    )


@contextlib.contextmanager
def _double_precision():
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


def _in_one_line(error):
    text = re.sub(r"\x1b\[\d*m", "", " ".join(str(error).split()))
    return f"{type(error).__name__}: {textwrap.shorten(text, 400)}"
