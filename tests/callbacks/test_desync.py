"""A replica whose weights differ is named, in one process and among real workers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import jobs
from support.worker_jobs.desync import error_after_a_change_on_the_chief

import tfdist
from tfdist.callbacks import desync
from tfdist.callbacks.desync import check_replicas, first_differing_replica
from tfdist.internals.access import models

pytestmark = pytest.mark.core


def set_on_replica(variable, replica, value):
    """Changes one replica's component of a weight."""
    component = variable.value.values[replica]
    component.assign(tf.fill(component.shape, tf.constant(value, component.dtype)))


def at_step(step, change):
    return keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: change() if batch + 1 == step else None
    )


def make_model(strategy, **arguments):
    with strategy.scope():
        return jobs.make_mlp(**arguments)


def fit(model, *callbacks, **arguments):
    x, y = jobs.make_rows(dtype="float32")
    return tfdist.fit(model, x, y, batch_size=20, verbose=0, callbacks=list(callbacks), **arguments)


def test_a_replica_that_differs_in_an_epoch_is_named_at_its_end(make_strategy):
    model = make_model(make_strategy(3))
    kernel = model.layers[-1].kernel
    planted = at_step(4, lambda: set_on_replica(kernel, 2, 7.0))
    with pytest.raises(RuntimeError, match="weights: replica 2 differs from replica 0 in") as error:
        fit(model, planted, epochs=3)
    assert f"in {kernel.path} after step 6 (max difference " in str(error.value)
    assert "Something changed it on one replica alone: a callback that runs on one worker" in str(error.value)


def test_a_replica_that_begins_with_other_weights_is_named_before_the_first_step(make_strategy):
    model = make_model(make_strategy(2))
    set_on_replica(model.layers[0].bias, 1, 0.25)
    steps = []
    with pytest.raises(RuntimeError, match=r"replica 1 differs .*bias after step 0 \(max difference 0.25\)"):
        fit(model, keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: steps.append(batch)))
    assert steps == []


def test_a_long_epoch_is_checked_every_thousand_steps(make_strategy, monkeypatch):
    monkeypatch.setattr("tfdist.callbacks.desync._STEPS_BETWEEN", 3)
    model = make_model(make_strategy(2))
    planted = at_step(1, lambda: set_on_replica(model.layers[0].bias, 1, 1.0))
    with pytest.raises(RuntimeError, match="after step 3 "):
        fit(model, planted)


def test_nan_on_one_replica_is_a_difference(make_strategy):
    model = make_model(make_strategy(2))
    set_on_replica(model.layers[0].bias, 1, np.nan)
    with pytest.raises(RuntimeError, match="max difference nan"):
        fit(model)


def test_replicas_that_agree_raise_nothing_also_without_synchronized_batchnorm(make_strategy):
    strategy = make_strategy(3)
    model = make_model(strategy, batch_norm=True)
    fit(model, epochs=2, sync_batchnorm=False)
    fit(model, sync_batchnorm=False)
    # They are averaged at the end of a call, so they are compared too.
    assert model.layers[1].moving_mean.path in [weight.path for weight in models.variables_alike(model)]
    fit(make_model(strategy, batch_norm=True), epochs=2)


def test_every_variable_is_compared_except_what_replicas_keep_for_themselves(make_strategy):
    strategy = make_strategy(2)
    model = make_model(strategy)
    with strategy.scope():
        model.mine = [tf.Variable([1.0, 1.0], trainable=False), keras.Variable([1.0], trainable=False, name="own")]
    momentum = model.optimizer
    fit(model)
    tfdist.keep_per_replica(model.mine[1])
    set_on_replica(model.mine[1], 1, 3.0)
    fit(model)
    set_on_replica(momentum.variables[-1], 1, 3.0)
    with pytest.raises(RuntimeError, match=r"replica 1 differs from replica 0 in (?i:sgd).*_momentum "):
        fit(model)
    momentum.variables[-1].assign(momentum.variables[-1].numpy())
    model.mine[0].values[1].assign([2.0, 2.0])
    with pytest.raises(RuntimeError, match=r"in Variable after step .*tfdist.keep_per_replica\(variable\)"):
        fit(model)


def test_synchronized_statistics_must_agree(make_strategy):
    model = make_model(make_strategy(2), batch_norm=True)
    planted = at_step(2, lambda: set_on_replica(model.layers[1].moving_mean, 1, 5.0))
    with pytest.raises(RuntimeError, match="moving_mean after step 6"):
        fit(model, planted)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "int64", "uint8", "bool"])
def test_weights_of_every_type_are_compared(make_strategy, dtype):
    strategy = make_strategy(2)
    with strategy.scope():
        variable = keras.Variable(np.zeros([5]), dtype=dtype, trainable=False, name="numbers")
    check_replicas(strategy, [variable])
    set_on_replica(variable, 1, True if dtype == "bool" else 1)
    with pytest.raises(RuntimeError, match=r"in numbers at the start \(max difference 1\)"):
        check_replicas(strategy, [variable], "at the start")


def test_two_elements_that_changed_places_are_seen(make_strategy):
    strategy = make_strategy(2)
    with strategy.scope():
        variable = keras.Variable(np.array([1.0, 2.0]), name="numbers")
    variable.value.values[1].assign([2.0, 1.0])
    with pytest.raises(RuntimeError, match="max difference 1"):
        check_replicas(strategy, [variable])


def test_rounding_is_no_difference():
    values = np.float32([[1.0, -2.0], [1.0, -2.0]])
    assert first_differing_replica(values) is None
    values[1] += np.float32([1e-7, 2e-7])
    assert first_differing_replica(values) is None
    values[1, 0] += 0.01
    replica, difference = first_differing_replica(values)
    assert (replica, round(difference, 3)) == (1, 0.01)


def test_among_workers_all_name_the_one_that_differs(two_workers):
    chief, other = (done.value for done in two_workers(error_after_a_change_on_the_chief))
    assert "weights: replica 1 (worker 1) differs from replica 0 in" in chief
    assert "bias after step 6 (max difference " in chief
    assert chief == other


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "bfloat16", "float16", "int32", "int64", "uint8", "uint32", "bool"]
)
def test_a_digest_is_the_same_on_every_kind_of_device(dtype):
    values = tf.cast(np.random.RandomState(0).uniform(-9, 9, [4, 5]).clip(0), dtype)
    # TensorFlow's operations, as on a GPU, and NumPy, as on a CPU.
    on_device, here = int(desync._digest(values)), int(desync._digest_in_numpy(values.numpy()))
    assert on_device == here != 0
    assert here != int(desync._digest_in_numpy(np.roll(values.numpy(), 1)))


def test_the_program_for_devices_gives_each_replicas_digests_and_is_kept(make_strategy):
    strategy = make_strategy(2)
    model = make_model(strategy, batch_norm=True)
    set_on_replica(model.layers[0].bias, 1, 3.0)
    digests = desync.Digests(strategy)
    program = digests.program_for(model.variables)
    found = [part.numpy() for part in strategy.experimental_local_results(program())]
    np.testing.assert_array_equal(found, digests.of(model.variables))
    assert [bool(each) for each in found[0] != found[1]].count(True) == 1
    assert digests.program_for(model.variables) is program
    assert digests.program_for(model.variables[1:]) is not program
