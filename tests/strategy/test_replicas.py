"""What may be passed to the replicas, and that nothing but tensors is."""

import warnings

import keras
import pytest
import tensorflow as tf
from support import jobs

import tfdist
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


def warnings_of(make_strategy, replicas, function):
    """Returns the texts of the warnings of a function that each replica runs, and the files that they name."""
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        run_on_replicas(make_strategy(replicas), function)
    return [str(each.message) for each in given], {each.filename for each in given}


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_a_warning_of_each_replica_is_shown_once_and_one_that_comes_twice_twice(make_strategy, replicas):
    def warn():
        for text in ("one", "two", "two"):
            warnings.warn(text, stacklevel=1)

    assert warnings_of(make_strategy, replicas, warn) == (["one", "two", "two"], {__file__})


def test_a_warning_of_one_replica_alone_is_shown(make_strategy):
    def warn():
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        warnings.warn(f"replica {int(number)}", stacklevel=1)

    texts, _ = warnings_of(make_strategy, 2, warn)
    assert texts == ["replica 0", "replica 1"]


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_keras_warns_as_often_as_on_one_device(make_strategy, replicas):
    class Unused(keras.Model):
        def __init__(self):
            super().__init__()
            self.used, self.unused = keras.layers.Dense(2), keras.layers.Dense(2)

        def call(self, x):
            self.unused(x)
            return self.used(x)

    with make_strategy(replicas).scope():
        model = Unused()
        model.compile("sgd", "mse")
    x, _ = jobs.make_rows(13, "float32")
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        tfdist.fit(model, x, x[:, :2], batch_size=4, epochs=2, verbose=0)
    # Keras' own `fit` warns once for each of its traces, of which tfdist has one.
    assert ["Gradients do not exist" in str(each.message) for each in given] == [True]
