"""Checks the loops over parts of a step on two replicas against Keras on the whole batch."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.worker_jobs.collectives import collectives_of_a_step

import tfdist
from tfdist.bench.config import BenchConfig
from tfdist.bench.contenders import TfdistFit
from tfdist.bench.task import make_task
from tfdist.gradients import updates
from tfdist.measure import parts
from tfdist.measure.split import Parts

WISHES = [
    {"exchange": "all_reduce", "compression": "none"},
    {"exchange": "all_reduce", "compression": "bfloat16"},
    {"exchange": "factors", "compression": "none"},
    {"exchange": "factors", "compression": "bfloat16"},
]
CONFIG = BenchConfig(
    model="support.bench_models:tiny",
    input_shape=(4,),
    classes=3,
    rows=64,
    replica_batch=8,
    optimizer="sgd",
    steps_per_execution=4,
)


def make_parts(**wishes):
    """Returns (the parts of a model that was trained on two replicas, the model, the task)."""
    task = make_task(CONFIG, tfdist.choose_strategy("mirrored", replicas=2))
    contender = TfdistFit(task, **wishes)
    contender.run(4)
    return Parts(task, contender.model), contender.model, task


def first_elements(model, task):
    """Returns the sum of one element of each gradient of the first global batch, as one device computes it."""
    x, y = task.first_batch()
    with tf.GradientTape() as tape:
        loss = keras.losses.SparseCategoricalCrossentropy()(y, model(x, training=True))
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    return sum(np.ravel(gradient)[0] for gradient in gradients)


@pytest.mark.parametrize("wishes", WISHES)
def test_the_reduction_that_is_measured_gives_both_replicas_the_global_gradient(wishes):
    found, model, task = make_parts(**wishes)
    # Three steps, each replica's sums; bfloat16 has 8 bits.
    error = 0.02 if wishes["compression"] == "bfloat16" else 1e-5
    assert found.run("reduce", 3) == pytest.approx(3 * 2 * first_elements(model, task), rel=error, abs=1e-6)


def test_the_gradients_that_are_measured_are_those_of_all_replicas():
    found, model, task = make_parts(exchange="all_reduce")
    assert found.run("compute", 3) == pytest.approx(3 * first_elements(model, task), rel=1e-5)


@pytest.fixture
def crossings(monkeypatch):
    """Returns a list that collects what is passed on to be summed or multiplied, as it is traced."""
    seen = []
    sum_over_replicas, reduce_factors = updates.sum_over_replicas, updates.reduce_factors

    def record_sums(values, *arguments):
        seen.append([(value.dtype.name, tuple(value.shape)) for value in values])
        return sum_over_replicas(values, *arguments)

    def record_factors(gradients, variables, wire, caller):
        pairs = [tuple(part.shape) for gradient in gradients for pair in gradient.pairs for part in pair]
        seen.append([pairs, [variable.path for variable in variables], wire])
        return reduce_factors(gradients, variables, wire, caller)

    monkeypatch.setattr(updates, "sum_over_replicas", record_sums)
    monkeypatch.setattr(updates, "reduce_factors", record_factors)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("wishes", WISHES)
def test_what_crosses_the_replicas_is_what_crosses_them_in_the_step(wishes, crossings):
    found, _, _ = make_parts(**wishes)
    told = {}
    for name in ("kept", "reduce", "compute", "alone"):
        crossings.clear()
        found.run(name, 1)
        told[name] = list(crossings)
    assert told["kept"] == told["reduce"] == told["alone"]
    # Once per replica: `alone` gets its sums before its loop.
    assert len(told["kept"]) == 2 * 2
    assert told["compute"] == []
    by_factors = any(pairs for pairs, *_ in [entry for entry in told["kept"] if len(entry) == 3])
    assert by_factors == (wishes["exchange"] == "factors")


@pytest.mark.slow
@pytest.mark.parametrize("wishes", WISHES)
def test_measuring_leaves_the_model_as_it_was(wishes):
    found, model, _ = make_parts(**wishes)
    before = [weight.numpy() for weight in [*model.weights, *model.optimizer.variables]]
    for name in parts.LOOPS:
        assert found.seconds(name, 3) > 0
    after = [weight.numpy() for weight in [*model.weights, *model.optimizer.variables]]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_step_that_reduces_nothing_moves_all_replicas_alike():
    found, model, task = make_parts(exchange="all_reduce")
    found.run("alone", 3)
    kernel, _ = model.trainable_variables
    one, other = task.strategy.experimental_local_results(kernel.value)
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("wishes", "sent"),
    [
        # 4 × 3 weights and 3 biases.
        (WISHES[0], (60, 0)),
        (WISHES[1], (30, 0)),
        # The biases; and of 8 rows 4 inputs and 3 gradients.
        (WISHES[2], (12, 224)),
        (WISHES[3], (6, 112)),
    ],
)
def test_the_bytes_that_each_replica_gives_are_counted(wishes, sent):
    found, _, _ = make_parts(**wishes)
    assert found.sent() == sent


def test_a_step_of_two_workers_has_one_collective(two_workers):
    both = two_workers(collectives_of_a_step)
    # Loss and metrics wait for the end of the call; without factors all gradients go in one pack.
    assert [done.value for done in both] == [{"kept": 1, "reduce": 1, "compute": 0}] * 2


def test_a_train_step_of_the_user_s_own_is_not_taken_apart():
    class Own(keras.Model):
        def train_step(self, data):
            return super().train_step(data)

    task = make_task(CONFIG, tfdist.choose_strategy("mirrored", replicas=2))
    assert Parts.are_known(task, keras.Model())
    assert not Parts.are_known(task, Own())


def test_calls_that_xla_compiles_whole_are_not_taken_apart():
    task = make_task(CONFIG, tfdist.choose_strategy("one_device"))
    for jit_compile in (True, False):
        contender = TfdistFit(task, jit_compile=jit_compile)
        contender.run(4)
        assert Parts.are_known(task, contender.model) != jit_compile
