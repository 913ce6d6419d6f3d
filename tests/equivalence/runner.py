"""Runs a row of the table: in plain Keras on one device, in tfdist, and in stock Keras on replicas."""

import contextlib
import functools
import warnings

import keras
import numpy as np
from equivalence.cases import make_cases

import tfdist

EPOCHS = 2
# Metrics are float32 inside Keras' own programs, whatever the precision.
HISTORY_TOLERANCE = 1e-5
CASES = {case.name: case for case in make_cases()}


@functools.cache
def run_plain(name):
    """Trains with Keras' `fit` on one device; returns (weights before, weights after, history)."""
    return _train(CASES[name], keras.Model.fit)


def run_tfdist(name, strategy, **more):
    """Trains with `tfdist.fit`, and arguments of its own; returns (weights before, weights after, history)."""
    return _train(CASES[name], functools.partial(tfdist.fit, **more), strategy.scope())


def run_on_workers(strategy, name, exchange):
    """Trains with `tfdist.fit`, as a job of `support.worker_group`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run_tfdist(name, strategy, exchange=exchange)


def run_stock(name, strategy):
    """Trains with Keras' own `fit` in the strategy's scope, for the column beside ours."""
    return _train(CASES[name], keras.Model.fit, strategy.scope())


def _train(case, fit, scope=None):
    with precision(case.precision):
        with scope or contextlib.nullcontext():
            model = case.build()
        x, arguments = _arguments(case)
        before = []
        look = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: before.append(vector(model)))
        look.every_worker = True
        history = fit(model, x, callbacks=[look], **arguments).history
        history = {name: np.asarray(values, "float64") for name, values in history.items()}
        return before[0], vector(model), history


def _arguments(case):
    arguments = {"epochs": EPOCHS, "verbose": 0, "shuffle": False, **case.fit}
    data = case.data()
    if not isinstance(data, tuple):
        return data, arguments
    for name, value in zip(("y", "sample_weight"), data[1:], strict=False):
        arguments[name] = value
    return data[0], arguments


def vector(model):
    """Returns the model's weights in one vector; an empty one before it is built."""
    return np.concatenate([np.zeros(0), *(np.asarray(weight, "float64").ravel() for weight in model.weights)])


@contextlib.contextmanager
def precision(name):
    """Makes Keras work in a precision for a while."""
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(name)
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])


def distance(name, result):
    """Returns how far a result's weights are from plain Keras'; asserts that the histories agree."""
    _, plain, plain_history = run_plain(name)
    _, weights, history = result
    assert list(history) == list(plain_history), f"{list(history)} instead of {list(plain_history)}"
    for key, values in history.items():
        np.testing.assert_allclose(values, plain_history[key], rtol=0, atol=HISTORY_TOLERANCE, err_msg=key)
    return float(np.abs(weights - plain).max())


def moved(name):
    """Returns how far a row's training moves the weights; infinite where they did not exist before it."""
    before, after, _ = run_plain(name)
    return float(np.abs(after - before).max()) if before.size == after.size else np.inf
