"""Checks what is refused before a run starts, and what is corrected silently."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import jobs

import tfdist
from tfdist.strategy import chosen, hardware
from tfdist.training import checks

pytestmark = pytest.mark.core


def make_net():
    return keras.Sequential([keras.Input((jobs.WIDTH,)), keras.layers.Dense(3, activation="softmax")])


def fit(model, **arguments):
    x, y = jobs.make_rows(8, "float32")
    return tfdist.fit(model, x, y, verbose=0, **arguments)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("trained_before", [False, True])
def test_promise_13_a_model_compiled_outside_the_scope_is_told_which_line_to_move(
    make_strategy, optimizer, trained_before
):
    with make_strategy(2).scope():
        model = make_net()
        model.compile("sgd", loss="sparse_categorical_crossentropy")
    if trained_before:
        fit(model)
    model.compile(optimizer, loss="sparse_categorical_crossentropy")
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


class Seen(keras.metrics.Metric):
    """Whether a class has been predicted; its state has the given type."""

    def __init__(self, dtype):
        super().__init__(name="seen")
        self.state = self.add_variable((), "zeros", dtype=dtype)

    def update_state(self, y_true, y_pred, sample_weight=None):
        seen = keras.ops.any(keras.ops.argmax(y_pred, -1) == 2)
        self.state.assign(keras.ops.maximum(self.state, keras.ops.cast(seen, self.state.dtype)))

    def result(self):
        return self.state


def test_a_metric_whose_state_tensorflow_cannot_combine_is_refused_by_name(make_strategy):
    def compiled(replicas, dtype):
        with make_strategy(replicas).scope():
            model = make_net()
            model.compile("sgd", "sparse_categorical_crossentropy", metrics=[Seen(dtype)])
        return model

    x, y = jobs.make_rows(8, "float32")
    for call in (fit, lambda model: tfdist.evaluate(model, x, y, verbose=0)):
        with pytest.raises(
            ValueError, match=r"metric 'seen' has a state of type bool, .* over 2 replicas. Use 0 and 1 of"
        ):
            call(compiled(2, "bool"))
    # What the message advises.
    keras.utils.set_random_seed(0)
    model = compiled(2, "int32")
    seen = (tfdist.predict(model, x, verbose=0).argmax(-1) == 2).any()
    assert tfdist.evaluate(model, x, y, verbose=0, return_dict=True)["seen"] == int(seen)


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


@pytest.fixture
def choose(cpus, monkeypatch):
    """Returns `choose_strategy` on a bare machine, whose choice is forgotten after the test."""
    monkeypatch.setattr(hardware, "logical_gpus", tuple)
    monkeypatch.setattr(chosen._Chosen, "strategy", chosen._Chosen.strategy)
    monkeypatch.setattr(chosen._Chosen, "alone", False)
    return tfdist.choose_strategy


def test_a_model_outside_the_scope_of_several_replicas_is_refused(choose):
    strategy = choose("mirrored", replicas=2)
    model = make_net()
    model.compile("sgd", loss="sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match=r"choose_strategy chose 2 replicas. Move the lines that make the model and"):
        fit(model)
    # A scope of one device is meant; and so is the last choice, if it is of one device.
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        other = make_net()
        other.compile("sgd", loss="sparse_categorical_crossentropy")
    fit(other)
    choose("one_device")
    fit(model)
    del strategy


def test_a_process_that_a_launcher_started_beside_others_trains_alone_only_if_told(choose, monkeypatch, make_strategy):
    monkeypatch.setenv("MV2_COMM_WORLD_SIZE", "2")
    with make_strategy(1).scope():
        model = make_net()
        model.compile("sgd", loss="sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="MV2_COMM_WORLD_SIZE is '2', which tells of 2 processes"):
        fit(model)
    with pytest.raises(ValueError, match="MV2_COMM_WORLD_SIZE is '2'"):
        choose("one_device")
    choose("one_device", alone=True)
    fit(model)


class Subclass(keras.Model):
    """A model that no config can make again."""

    def __init__(self, weights):
        super().__init__()
        self.hidden, self.norm = keras.layers.Dense(6, "tanh"), keras.layers.BatchNormalization()
        self.drop, self.classes = keras.layers.Dropout(0.0), keras.layers.Dense(jobs.CLASSES, "softmax")
        self.not_serializable = [weights]

    def call(self, x, training=None):
        return self.classes(self.drop(self.norm(self.hidden(x), training=training), training=training))


def make_movable(kind):
    keras.utils.set_random_seed(3)
    if kind == "subclass":
        model = Subclass(lambda: None)
    else:
        first = [keras.Input((jobs.WIDTH,))] if kind == "built" else []
        model = keras.Sequential(
            [*first, keras.layers.Dense(6, "tanh"), keras.layers.BatchNormalization(), keras.layers.Dense(3, "softmax")]
        )
    optimizer = keras.optimizers.AdamW(0.01, weight_decay=0.1)
    if kind == "built":
        optimizer.exclude_from_weight_decay(var_list=[model.layers[0].kernel])
    metrics = [keras.metrics.SparseCategoricalAccuracy()]
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=metrics, jit_compile=False)
    return model


@pytest.mark.parametrize(("kind", "trained_before"), [("built", True), ("unbuilt", False), ("subclass", True)])
def test_fit_moves_a_model_into_a_strategy_where_it_goes_on_as_on_one_device(
    make_strategy, float64, kind, trained_before
):
    x, y = jobs.make_rows(37)
    plain, moved = make_movable(kind), make_movable(kind)
    arguments = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0}
    for model in (plain, moved) if trained_before else ():
        model.fit(x, y, **arguments)
    plain.fit(x, y, **arguments)
    strategy = make_strategy(3)
    tfdist.fit(moved, x, y, strategy=strategy, **arguments)
    assert moved.distribute_strategy is strategy
    np.testing.assert_allclose(jobs.weights_of(moved), jobs.weights_of(plain), rtol=0, atol=1e-12)
    expected = plain.evaluate(x, y, verbose=0)
    assert tfdist.evaluate(moved, x, y, verbose=0) == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(moved.predict(x, verbose=0), plain.predict(x, verbose=0), rtol=0, atol=1e-12)


def test_evaluate_and_predict_move_a_model_too(make_strategy):
    x, y = jobs.make_rows(8, "float32")
    one, other = make_movable("built"), make_movable("built")
    expected = one.evaluate(x, y, verbose=0), one.predict(x, verbose=0)
    assert tfdist.evaluate(one, x, y, verbose=0, strategy=make_strategy(2)) == pytest.approx(expected[0], abs=1e-6)
    np.testing.assert_allclose(tfdist.predict(other, x, verbose=0, strategy=make_strategy(2)), expected[1], atol=1e-6)


class OfTensorFlow(keras.layers.Layer):
    """A layer with a variable that Keras does not know."""

    def __init__(self):
        super().__init__(name="old")
        self.scale = tf.Variable(1.0)

    def call(self, x):
        return x * self.scale


def test_what_cannot_be_moved_is_refused_by_name(make_strategy):
    model = keras.Sequential([keras.Input((jobs.WIDTH,)), OfTensorFlow(), keras.layers.Dense(3, "softmax")])
    model.compile("sgd", loss="sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match=r"old.scale holds a .*Variable, which strategy= cannot move. Move the lines"):
        fit(model, strategy=make_strategy(2))
    model = make_movable("built")
    model.second = keras.optimizers.SGD(0.1)
    with pytest.raises(ValueError, match=r"second holds a SGD, which strategy= cannot move"):
        fit(model, strategy=make_strategy(2))
    with make_strategy(2).scope():
        model = make_movable("built")
    with pytest.raises(ValueError, match="the model is in another strategy of several replicas already"):
        fit(model, strategy=make_strategy(3))
    with pytest.raises(ValueError, match=r"strategy is 'mirrored'. Give a strategy"):
        fit(make_movable("built"), strategy="mirrored")


def test_a_generator_is_not_read_twice(make_strategy, caplog):
    x, y = jobs.make_rows(32, "float32")

    def batches():
        yield from ((x[place : place + 8], y[place : place + 8]) for place in range(0, 32, 8))

    with make_strategy(1).scope():
        model = make_net()
        model.compile("sgd", loss="sparse_categorical_crossentropy")
    history = tfdist.fit(model, batches(), epochs=3, verbose=0)
    # Keras would train on the first batches once more, in silence.
    assert (len(history.history["loss"]), int(model.optimizer.iterations.numpy())) == (1, 4)
    assert "this one has ended after 4 batches, so the run ends with it" in caplog.text
    with pytest.raises(ValueError, match=r"validation_data is a generator, .* 2 times. Give validation_steps"):
        fit(model, epochs=4, validation_data=batches(), validation_freq=2)
    with pytest.warns(UserWarning, match=r"data ended after 1 batches"):
        history = tfdist.fit(model, batches(), epochs=4, steps_per_epoch=3, verbose=0)
    assert len(history.history["loss"]) == 2


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
    if tuple(map(int, keras.__version__.split(".")[:2])) >= (3, 15):
        # Keras 3.13 fails on it: it cannot build a stateful RNN for an open number of rows.
        tfdist.fit(make(make_strategy(1)), x, y, **given)
