"""Checks what is refused before a run starts, and what is corrected silently."""

import keras
import numpy as np
import pytest
from support import jobs

import tfdist
from tfdist.training import checks

pytestmark = pytest.mark.core


def make_net():
    return keras.Sequential([keras.Input((jobs.WIDTH,)), keras.layers.Dense(3, activation="softmax")])


def fit(model, **arguments):
    x, y = jobs.make_rows(8, "float32")
    return tfdist.fit(model, x, y, verbose=0, **arguments)


def test_promise_13_a_model_compiled_outside_the_scope_is_told_which_line_to_move(make_strategy):
    with make_strategy(2).scope():
        model = make_net()
    model.compile("sgd", loss="sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match=r"the optimizer was made outside strategy.scope\(\)") as error:
        fit(model)
    assert "Move the lines that make model.compile and the optimizer into `with strategy.scope():`" in str(error.value)


def test_promise_13_a_metric_made_outside_the_scope_is_told(make_strategy):
    auc = keras.metrics.SparseCategoricalAccuracy()
    with make_strategy(2).scope():
        model = make_net()
        model.compile(keras.optimizers.SGD(), loss="sparse_categorical_crossentropy", metrics=[auc])
    with pytest.raises(ValueError, match=r"a metric was made outside strategy.scope\(\)"):
        fit(model)


def test_promise_11_the_optimizer_is_built_for_the_user(make_strategy):
    with make_strategy(2).scope():
        model = make_net()
        model.compile("adam", loss="sparse_categorical_crossentropy")
    assert not model.optimizer.built
    built = []
    # Before the first step, which would build it within the compiled step, if at all.
    fit(
        model,
        callbacks=[keras.callbacks.LambdaCallback(on_train_begin=lambda logs: built.append(model.optimizer.built))],
    )
    assert built == [True]
    assert int(model.optimizer.iterations.numpy()) == 1


def test_promise_12_xla_with_synchronized_batchnorm_is_refused_by_the_layers_name(make_strategy):
    with make_strategy(2).scope():
        model = keras.Sequential([make_net(), keras.layers.BatchNormalization(name="norm")])
        model.compile("sgd", loss="sparse_categorical_crossentropy", jit_compile=True)
    with pytest.raises(ValueError, match=r"jit_compile=True, but layer 'norm' takes its statistics over all replicas"):
        fit(model)
    # On one replica there is nothing to synchronize.
    with make_strategy(1).scope():
        model = keras.Sequential([make_net(), keras.layers.BatchNormalization(name="norm")])
        model.compile("sgd", loss="sparse_categorical_crossentropy", jit_compile=True)
    fit(model)


def test_promise_12_xla_with_a_loss_that_needs_the_other_replicas_is_refused(make_strategy):
    with make_strategy(2).scope():
        model = make_net()
        loss = keras.losses.SparseCategoricalCrossentropy(reduction="mean_with_sample_weight")
        model.compile("sgd", loss=loss, jit_compile=True)
    with pytest.raises(ValueError, match=r"jit_compile=True, but the loss divides by weights or unmasked elements"):
        fit(model, sample_weight=np.ones(8))


def test_promise_32_a_metric_read_on_one_worker_alone_needs_nobody_else(make_strategy):
    # The values of the logs come from the step, so they are plain Python numbers.
    read = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: read.append(logs))
    with make_strategy(3).scope():
        model = jobs.make_mlp(keras.optimizers.SGD(0.0))
    fit(model, callbacks=[callback])
    assert {type(value) for value in read[0].values()} == {float}
    # And they are those of all replicas: no weight moves, so an evaluation must find the same.
    x, y = jobs.make_rows(8, "float32")
    assert read[0] == pytest.approx(tfdist.evaluate(model, x, y, verbose=0, return_dict=True), abs=1e-6)


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("train", fit),
        ("test", lambda model: tfdist.evaluate(model, *jobs.make_rows(8, "float32"), verbose=0)),
        ("predict", lambda model: tfdist.predict(model, jobs.make_rows(8, "float32")[0], verbose=0)),
    ],
)
def test_a_loop_of_the_models_own_is_refused_and_not_passed_over(make_strategy, method, call):
    class Own(keras.Sequential):
        pass

    setattr(Own, f"make_{method}_function", lambda self, force=False: None)
    with make_strategy(2).scope():
        model = Own([make_net()])
        model.compile("sgd", loss="sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match=f"has a make_{method}_function of its own, .* as {method}_step"):
        call(model)


def test_a_model_outside_the_scope_of_several_workers_is_refused(make_strategy):
    two = {"TF_CONFIG": '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}'}
    with pytest.raises(ValueError, match=r"TF_CONFIG lists 2 workers, but the model was made outside the scope"):
        checks.check_not_alone(make_strategy(1), two)
    checks.check_not_alone(make_strategy(1), {})
    checks.check_not_alone(make_strategy(2), {"TF_CONFIG": two["TF_CONFIG"].replace(', "b:1"', "")})


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_stateful_rnn_is_refused_by_name_on_several_replicas_alone(make_strategy, wrapped):
    def make(strategy):
        with strategy.scope():
            layer = keras.layers.LSTM(3, stateful=True, name="memory")
            layer = keras.layers.Bidirectional(layer, name="both") if wrapped else layer
            inputs = keras.Input(batch_shape=(4, 5, 2))
            model = keras.Model(inputs, keras.layers.Dense(1)(layer(inputs)))
            model.compile("sgd", "mse")
        return model

    x, y = np.zeros((8, 5, 2), "float32"), np.zeros((8, 1), "float32")
    given = {"batch_size": 4, "verbose": 0}
    model = make(make_strategy(2))
    name = "both" if wrapped else "memory"
    for call in (
        lambda: tfdist.fit(model, x, y, **given),
        lambda: tfdist.evaluate(model, x, y, **given),
        lambda: tfdist.predict(model, x, **given),
    ):
        with pytest.raises(ValueError, match=rf"layer '{name}' is stateful.*Use stateful=False, or train it on one"):
            call()
    tfdist.fit(make(make_strategy(1)), x, y, **given)
