"""Every kind of data and every argument of `fit`, against plain Keras' own `fit` on one device."""

import re
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from support import jobs
from support.input_cases import CASES, VALID, Batches, Net, X, Y, dataset, generate, make_list_model, unknown

import tfdist
from tfdist.data.sources.arrays import from_arrays
from tfdist.feeding import checks
from tfdist.process.errors import UsageError

pytestmark = [pytest.mark.usefixtures("float64"), pytest.mark.slow]


def run_plainly(make_model, arguments):
    """Trains with Keras' own `fit`, which takes strings only as tensors."""
    if isinstance(arguments["x"], np.ndarray) and arguments["x"].dtype.kind in "UO":
        arguments["x"] = tf.constant(arguments["x"])
    model = make_model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        history = model.fit(**arguments)
    return model, history.history


def run(strategy, make_model, arguments):
    """Trains with `tfdist.fit`."""
    with strategy.scope():
        model = make_model()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*the data ended after")
        history = tfdist.fit(model, **arguments)
    return model, history.history


def assert_same_run(one, other):
    (model, history), (plain, plain_history) = one, other
    np.testing.assert_allclose(jobs.weights_of(model), jobs.weights_of(plain), rtol=0, atol=1e-9)
    assert history.keys() == plain_history.keys()
    for name, values in history.items():
        np.testing.assert_allclose(values, plain_history[name], rtol=1e-6, atol=1e-9, err_msg=name)


def arguments_of(case):
    """Returns fresh arguments, in the order of the rows, so that plain Keras sees the same batches."""
    arguments = {"epochs": 2, "verbose": 0, "shuffle": False} | CASES[case][1]()
    if "y" in arguments:
        arguments = {"batch_size": 5} | arguments
    return arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": Y[:9]}, f"x has {len(X)} rows, y has 9 rows. Give as many rows of each"),
        ({"y": Y[:9], "validation_split": 0.5}, f"x has {len(X)} rows, y has 9 rows. Give as many rows of each"),
        ({"y": Y, "sample_weight": np.ones(3)}, "sample_weight has 3 rows. Give as many rows of each"),
        ({"y": Y, "validation_data": (X, Y[:9])}, f"validation_data: x has {len(X)} rows, y has 9 rows. Give as"),
    ],
)
def test_arrays_of_different_numbers_of_rows_are_one_message(arguments, message):
    model = keras.Sequential([keras.Input(X.shape[1:]), layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(UsageError, match=re.escape(message)):
        tfdist.fit(model, X, verbose=0, **arguments)


def test_inputs_of_different_numbers_of_rows_are_told_apart():
    with pytest.raises(UsageError, match=r"^x\['a'\] has 4 rows, x\['b'\]\[0\] has 3 rows. Give as many"):
        checks.check_lengths({"a": np.ones((4, 2)), "b": [np.ones(3)]}, None, None, "x")
    # A batch has no rows of its own before it is read.
    checks.check_lengths(dataset(), None, None, "x")


@pytest.mark.parametrize("case", CASES)
def test_fit_gives_what_keras_gives_on_one_device(make_strategy, case):
    make_model, _ = CASES[case]
    plain = run_plainly(make_model, arguments_of(case))
    assert_same_run(run(make_strategy(2), make_model, arguments_of(case)), plain)
    fresh = make_model()
    assert not fresh.built or np.abs(jobs.weights_of(plain[0]) - jobs.weights_of(fresh)).max() > 1e-2


ran_out = pytest.mark.filterwarnings("ignore:Your input ran out of data")


@ran_out
@pytest.mark.parametrize("case", ["arrays", "dicts with weights", "strings", "ragged", "sparse", "generator"])
def test_evaluate_and_predict_give_what_keras_gives(make_strategy, case):
    make_model, _ = CASES[case]
    with make_strategy(3).scope():
        model = make_model()
    plain = make_model()
    take = {"x", "y", "batch_size", "sample_weight"}
    arguments = [{name: value for name, value in arguments_of(case).items() if name in take} for _ in range(4)]
    for given in arguments[:2]:
        given["x"] = tf.constant(given["x"]) if case == "strings" else given["x"]
    theirs = plain.evaluate(verbose=0, **arguments[0])
    np.testing.assert_allclose(tfdist.evaluate(model, verbose=0, **arguments[2]), theirs, rtol=1e-9)
    outputs = plain.predict(arguments[1]["x"], verbose=0)
    for mine, other in zip(
        tf.nest.flatten(tfdist.predict(model, arguments[3]["x"], verbose=0)), tf.nest.flatten(outputs), strict=True
    ):
        assert (type(mine), mine.dtype) == (type(other), other.dtype)
        np.testing.assert_allclose(mine, other, atol=1e-12)


@pytest.mark.parametrize("make_data", [lambda: dataset().repeat(), lambda: Batches(infinite=True)])
def test_promise_27_endless_data_without_steps_are_refused_before_anything_starts(make_data):
    model = jobs.make_mlp()
    before = jobs.weights_of(model)
    calls = {
        "x": [lambda: tfdist.fit(model, make_data()), lambda: tfdist.evaluate(model, make_data())],
        "validation_data": [lambda: tfdist.fit(model, X, Y, validation_data=make_data())],
    }
    calls["x"].append(lambda: tfdist.predict(model, make_data()))
    for name, functions in calls.items():
        for function in functions:
            with pytest.raises(ValueError, match=f"^{name}: the data have no end, .* Give steps_per_epoch"):
                function()
    np.testing.assert_array_equal(jobs.weights_of(model), before)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_pydataset_is_told_of_each_epoch_once(make_strategy, workers):
    with make_strategy(2).scope():
        model = jobs.make_mlp()
    data = Batches(workers=workers)
    tfdist.fit(model, data, epochs=2, verbose=0)
    assert data.told == ["begin", "end"] * 2


@pytest.mark.parametrize("workers", [1, 2])
def test_a_pydataset_begins_anew_after_a_part_of_it_was_read(workers):
    model = jobs.make_mlp()
    data = Batches(workers=workers)
    first, again = (tfdist.evaluate(model, data, steps=2, verbose=0) for _ in range(2))
    assert first == again
    assert first == pytest.approx(tfdist.evaluate(model, X[:10], Y[:10], verbose=0))


# `pytest.warns` re-emits the warnings of TensorFlow 2.20 without their module.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_an_epoch_that_the_data_cannot_fill_ends_with_a_warning(make_strategy):
    with make_strategy(2).scope():
        model = jobs.make_mlp()
    for data in ({"x": X, "y": Y, "batch_size": 5}, {"x": dataset()}, {"x": unknown()}):
        with pytest.warns(UserWarning, match=r"^x: the data ended after 5 batches; .* for steps_per_epoch=7 need"):
            tfdist.fit(model, **data, steps_per_epoch=7, verbose=0)


def test_an_epoch_longer_than_a_source_goes_on_in_its_next_pass(make_strategy):
    source = from_arrays(X, Y, global_batch=5, seed=3)
    with make_strategy(2).scope():
        model = jobs.make_mlp()
    tfdist.fit(model, source, steps_per_epoch=10, verbose=0)
    plain, _ = jobs.train_plainly(source, epochs=2)
    np.testing.assert_allclose(jobs.weights_of(model), jobs.weights_of(plain), rtol=0, atol=1e-9)


def test_a_source_validates_and_takes_class_weights(make_strategy):
    class_weight = {0: 0.5, 1: 2.0, 2: 1.0}
    source = from_arrays(X, Y, global_batch=5, shuffle=False)
    arguments = {"class_weight": class_weight, "epochs": 2, "verbose": 0}
    valid = from_arrays(*VALID, global_batch=4, shuffle=False)
    mine = run(make_strategy(3), jobs.make_mlp, {"x": source, "validation_data": valid, **arguments})
    arrays = {"x": X, "y": Y, "batch_size": 5, "shuffle": False, "validation_data": VALID}
    assert_same_run(mine, run_plainly(jobs.make_mlp, arrays | arguments))


class StopAfterTwo(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = batch == 1


def test_stop_training_ends_an_epoch_in_its_middle(make_strategy):
    arguments = arguments_of("validation arrays") | {"epochs": 3}
    plain = run_plainly(jobs.make_mlp, arguments | {"callbacks": [StopAfterTwo()]})
    mine = run(make_strategy(2), jobs.make_mlp, arguments | {"callbacks": [StopAfterTwo()]})
    assert len(plain[1]["loss"]) == 1
    assert_same_run(mine, plain)


class OwnSteps(Net):
    """A model with steps of its own, whose logs are metrics and other values."""

    def __init__(self):
        super().__init__()
        self.hits = keras.metrics.SparseCategoricalAccuracy(name="hits")

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x, y, y_pred)
        self.optimizer.apply_gradients(
            zip(tape.gradient(loss, self.trainable_variables), self.trainable_variables, strict=True)
        )
        self.hits.update_state(y, y_pred)
        return {"hits": self.hits.result(), "loss_of_batch": loss, "seven": 7}

    def test_step(self, data):
        x, y = data
        self.hits.update_state(y, self(x, training=False))
        return {"hits": self.hits.result(), "eight": 8.0}

    def predict_step(self, data):
        return {"chosen": tf.argmax(self(data, training=False), axis=-1)}


def make_own_steps():
    keras.utils.set_random_seed(7)
    model = OwnSteps()
    model.compile(keras.optimizers.SGD(0.2), loss="sparse_categorical_crossentropy")
    return model


@pytest.mark.parametrize("global_batch", [5, 11])
def test_steps_of_the_users_own_give_what_they_give_in_keras(make_strategy, global_batch):
    # With batches of 11, the last one has a single row, which leaves a replica without rows.
    arguments = arguments_of("validation arrays") | {"batch_size": global_batch}
    plain = run_plainly(make_own_steps, arguments)
    mine = run(make_strategy(2), make_own_steps, arguments)
    assert_same_run(mine, plain)
    chosen = tfdist.predict(mine[0], X, verbose=0)["chosen"]
    np.testing.assert_array_equal(chosen, plain[0].predict(X, verbose=0)["chosen"])


class OwnLossAndMetrics(Net):
    """A model with a loss and metrics of its own."""

    def __init__(self):
        super().__init__()
        self.mean = keras.metrics.Mean(name="mean_output")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return super().compute_loss(x, y, y_pred, sample_weight, training) + tf.reduce_mean(tf.square(y_pred[:, 0]))

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        self.mean.update_state(y_pred[:, 0])
        return super().compute_metrics(x, y, y_pred, sample_weight)


def make_own_loss():
    keras.utils.set_random_seed(7)
    model = OwnLossAndMetrics()
    model.compile(keras.optimizers.SGD(0.2), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def test_losses_and_metrics_of_the_users_own_give_what_they_give_in_keras(make_strategy):
    arguments = arguments_of("validation arrays")
    assert_same_run(run(make_strategy(3), make_own_loss, arguments), run_plainly(make_own_loss, arguments))


@ran_out
def test_outputs_of_different_lengths_come_ragged_as_in_keras(make_strategy):
    def batches():
        for length in (3, 5):
            yield (np.ones((4, length)),)

    def make_model():
        return keras.Sequential([keras.Input((None,)), layers.Rescaling(2.0)])

    with make_strategy(2).scope():
        model = make_model()
    outputs = tfdist.predict(model, batches(), verbose=0)
    assert outputs.to_list() == make_model().predict(batches(), verbose=0).to_list()


def test_a_generator_may_leave_the_weights_out(make_strategy):
    def batches():
        for x, y in generate():
            yield x, y, None

    arguments = {"epochs": 1, "verbose": 0, "shuffle": False}
    plain = run_plainly(jobs.make_mlp, arguments | {"x": batches()})
    assert_same_run(run(make_strategy(2), jobs.make_mlp, arguments | {"x": batches()}), plain)


@pytest.mark.parametrize(("verbose", "expected"), [(0, ""), (1, "1/1"), (2, "1/1 - ")])
def test_verbose_says_as_much_as_in_keras(capsys, verbose, expected):
    tfdist.fit(jobs.make_mlp(), X, Y, verbose=verbose, validation_data=VALID)
    out = capsys.readouterr().out
    assert expected in out
    assert ("val_loss" in out) == (verbose > 0)
    assert bool(out) == (verbose > 0)


def test_evaluate_gives_a_number_a_list_or_a_dict():
    model = jobs.make_mlp()
    values = tfdist.evaluate(model, X, Y, verbose=0)
    assert tfdist.evaluate(model, X, Y, verbose=0, return_dict=True) == dict(
        zip(("loss", "accuracy"), values, strict=True)
    )
    loss_alone = make_list_model().get_layer("p")
    model = keras.Sequential([keras.Input((4,)), loss_alone])
    model.compile(loss="sparse_categorical_crossentropy")
    assert tfdist.evaluate(model, X, Y, verbose=0) == pytest.approx(model.evaluate(X, Y, verbose=0))


def scalar_model():
    class Scalar(Net):
        def predict_step(self, data):
            return tf.reduce_mean(self(data))

    return Scalar()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tfdist.fit(jobs.make_mlp()), "^x is None. Give arrays, a tf.data.Dataset"),
        (lambda: tfdist.fit(jobs.make_mlp(), dataset().take(0)), "^x: there is no batch. Check the data"),
        # Its length is unknown before it has been read.
        (
            lambda: tfdist.fit(jobs.make_mlp(), dataset().filter(lambda *row: False)),
            "^x: there is no batch. Check the data",
        ),
        (lambda: tfdist.predict(jobs.make_mlp(), X[:0]), "^x: there are no rows. Check"),
        (
            lambda: tfdist.predict(jobs.make_mlp(), unknown().take(5).filter(lambda *_: False), verbose=0),
            "^x: there is no batch. Check the data",
        ),
        (lambda: tfdist.predict(scalar_model(), X, verbose=0), "predict_step returned .* Return one output for each"),
    ],
)
def test_data_that_cannot_be_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("replicas", [2, 3])
def test_data_that_a_strategy_has_divided_are_trained_on_as_one_device_does(make_strategy, replicas):
    def batches():
        # Also a last batch with fewer rows, and one of a single row.
        return tf.data.Dataset.from_tensor_slices(jobs.make_rows(31, "float32")).batch(10)

    strategy, plain = make_strategy(replicas), jobs.make_mlp()
    plain.fit(batches(), epochs=2, shuffle=False, verbose=0, validation_data=batches())
    with strategy.scope():
        model = jobs.make_mlp()
    divided = strategy.experimental_distribute_dataset(batches())
    tfdist.fit(model, divided, epochs=2, verbose=0, validation_data=divided)
    np.testing.assert_allclose(jobs.weights_of(model), jobs.weights_of(plain), rtol=0, atol=2e-5)
    given = {"verbose": 0, "return_dict": True}
    found, expected = tfdist.evaluate(model, divided, **given), plain.evaluate(batches(), **given)
    assert found == pytest.approx(expected, abs=1e-5)
    assert tfdist.predict(model, divided, verbose=0).shape == (31, jobs.CLASSES)


def test_divided_data_whose_batches_are_unknown_are_refused_by_name(make_strategy):
    strategy = make_strategy(2)
    with strategy.scope():
        model = jobs.make_mlp()
    data = tf.data.Dataset.from_tensor_slices(jobs.make_rows(8, "float32")).batch(4)
    by_function = strategy.distribute_datasets_from_function(lambda context: data)
    for given, name in (
        (by_function, "DistributedDatasetsFromFunction"),
        (iter(strategy.experimental_distribute_dataset(data)), "DistributedIterator"),
        (next(iter(strategy.experimental_distribute_dataset(data)))[0], "PerReplica"),
    ):
        with pytest.raises(ValueError, match=f"x is a {name}, already divided over replicas"):
            tfdist.fit(model, given, verbose=0)
    with pytest.raises(ValueError, match=r"validation_data is a Distr.*data\.from_function for a part"):
        tfdist.fit(model, data, validation_data=by_function, verbose=0)
