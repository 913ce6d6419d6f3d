"""Checks half precision and loss scaling over replicas."""

import keras
import numpy as np
import pytest
from support import jobs
from support.turns import in_turns

from tfdist.process.errors import NotFiniteError

pytestmark = [pytest.mark.core, pytest.mark.slow]


@pytest.fixture(autouse=True)
def _policy():
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(("replicas", "policy"), in_turns([1, 2, 3], ["mixed_bfloat16", "mixed_float16"]))
def test_half_precision_trains_on_any_number_of_replicas(make_strategy, policy, replicas):
    keras.config.set_dtype_policy(policy)
    model, history = jobs.train(make_strategy(replicas), jobs.small_source(20), epochs=4)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == (policy == "mixed_float16")
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    plain, plain_history = jobs.train_plainly(jobs.small_source(20), epochs=4)
    # Half precision keeps 11 (float16) or 8 (bfloat16) bits of each activation.
    np.testing.assert_allclose(jobs.weights_of(model), jobs.weights_of(plain), atol=2e-2)
    np.testing.assert_allclose(history["loss"], plain_history["loss"], rtol=2e-2)


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_promise_04_an_overflow_on_one_replica_skips_the_step_on_all(make_strategy, replicas, float64):
    # Row 19 of each epoch overflows: the last one of the first batch, on the last replica.
    strategy = make_strategy(replicas)
    model, _ = jobs.train(strategy, jobs.overflowing_source(), make_model=jobs.make_loss_scaling_mlp)
    plain, _ = jobs.train_plainly(jobs.overflowing_source(), make_model=jobs.make_loss_scaling_mlp)
    assert np.isfinite(jobs.weights_of(model)).all()
    np.testing.assert_allclose(jobs.weights_of(model), jobs.weights_of(plain), rtol=0, atol=1e-9)
    # Two epochs: skipped twice, each time halved; 5 of 6 steps an epoch were done.
    assert float(model.optimizer.dynamic_scale.numpy()) == float(plain.optimizer.dynamic_scale.numpy()) == 2.0**15 / 4
    assert int(model.optimizer.iterations.numpy()) == 2 * 5


def test_promise_04_skipping_on_one_replica_alone_would_be_found(make_strategy, float64, monkeypatch):
    import tensorflow as tf

    from tfdist.gradients import updates

    def mine_are_finite(gradients):
        return tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])

    # The first replica's flag alone: it sees no overflow, and the step is done with infinite gradients.
    monkeypatch.setattr(updates, "_all_finite", mine_are_finite)
    with pytest.raises(NotFiniteError, match="is not finite"):
        jobs.train(make_strategy(2), jobs.overflowing_source(), make_model=jobs.make_loss_scaling_mlp)
