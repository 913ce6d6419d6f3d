"""Variables of a strategy are read as Python numbers, as those of one device are."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import jobs
from tensorflow.python.distribute.values import DistributedVariable

import tfdist

pytestmark = pytest.mark.core

READ = {
    "int": int,
    "float": float,
    "complex": complex,
    "format": lambda variable: f"{variable:.3f}",
    "plain format": lambda variable: f"{variable}".startswith("<Variable path="),
    "array": lambda variable: np.asarray(variable).tolist(),
    "compare": lambda variable: bool(variable > 0.1),
    "arithmetic": lambda variable: float(2 * variable + 1),
    "round": lambda variable: float(round(variable)),
}


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_a_number_of_a_strategy_reads_as_one_of_one_device(make_strategy, replicas):
    strategy = make_strategy(replicas)
    plain = keras.Variable(0.75)
    with strategy.scope():
        variable = keras.Variable(0.75)
        within = {name: read(variable) for name, read in READ.items()}
    assert within == {name: read(variable) for name, read in READ.items()}
    assert within == {name: read(plain) for name, read in READ.items()}


def test_callbacks_read_them_while_fit_runs(make_strategy):
    seen = []

    class Reads(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.append(int(self.model.optimizer.iterations))

        def on_train_batch_end(self, batch, logs=None):
            optimizer = self.model.optimizer
            seen.append((int(optimizer.iterations), float(optimizer.learning_rate), f"{optimizer.learning_rate:.2f}"))

    jobs.train(make_strategy(2), jobs.small_source(60), make_model=slow_mlp, epochs=1, callbacks=[Reads()])
    assert seen == [0, (1, 0.25, "0.25"), (2, 0.25, "0.25")]


def slow_mlp():
    return jobs.make_mlp(keras.optimizers.SGD(0.25))


def test_without_the_methods_tensorflow_refuses(make_strategy, monkeypatch):
    with make_strategy(2).scope():
        variable = keras.Variable(3)
    monkeypatch.delattr(DistributedVariable, "__int__")
    with pytest.raises(TypeError, match="not 'MirroredVariable'"):
        int(variable)


def test_what_is_no_scalar_or_no_number_is_refused_as_on_one_device(make_strategy):
    with make_strategy(2).scope():
        several, one = keras.Variable([1.0, 2.0]), keras.Variable(1.0)
    with pytest.raises(TypeError):
        int(several)
    with pytest.raises(TypeError, match="unsupported format string"):
        f"{several:.2f}"
    with pytest.raises(TypeError):
        tf.function(lambda: int(one), autograph=False)()


def test_the_scope_reads_them_before_any_fit(make_strategy):
    with make_strategy(2).scope():
        optimizer = keras.optimizers.SGD(tfdist.optimizers.WarmUp(0.5, steps=2))
        assert (int(optimizer.iterations), float(optimizer.learning_rate)) == (0, 0.0)
