"""What may be passed to the replicas, and that nothing but tensors is."""

import pytest
import tensorflow as tf

from tfdist.strategy.replicas import run_on_replicas


def test_tensors_and_per_replica_values_are_passed(make_strategy):
    strategy = make_strategy(2)
    numbers = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(float(context.replica_id_in_sync_group))
    )
    sums = run_on_replicas(strategy, lambda nested, one: nested["a"] + one, {"a": numbers, "b": None}, tf.constant(1.0))
    assert [float(value) for value in strategy.experimental_local_results(sums)] == [1.0, 2.0]


@pytest.mark.parametrize("value", [True, "collect", len, 3])
def test_anything_else_is_refused(make_strategy, value):
    with pytest.raises(TypeError, match=r"is no tensor\. The function must close over it"):
        run_on_replicas(make_strategy(2), lambda value: value, [value])
