"""Keras' own tests of `Model.fit`, with tfdist's `fit`, `evaluate` and `predict` in its place, on two replicas.

They are the tests that come with the installed Keras; a test that a later Keras adds runs too. What is left out is in
`LEFT_OUT`, with the reason. Tests that Keras runs in three modes, eager, as a graph and through XLA, take turns: each
case in one of them, or in all with KERAS_TESTS=all in the environment.
"""

import fnmatch
import importlib.util
import os
import re
import sys
import types

import pytest
from keras.src.backend.tensorflow.trainer import TensorFlowTrainer

import tfdist

ON_BATCH = "is about Keras' own train_on_batch, test_on_batch and predict_on_batch, which tfdist leaves alone"
LEFT_OUT = {
    "test_on_batch_methods*": ON_BATCH,
    "test_nested_inputs": ON_BATCH + ": here predict_on_batch gives each row once a replica",
    "test_steps_per_execution_steps_per_epoch_match_multi_epoch_*": (
        "wants 6 steps in an epoch of steps_per_epoch=5, since Keras cuts no call of 2 steps short; tfdist makes 5"
    ),
    "test_steps_per_execution_unrolled_steps_steps_count_*": (
        "turns unrolled_steps_per_execution, which speeds up Keras' own loop and means nothing to tfdist's; what is "
        "counted there is counted in test_steps_per_execution_steps_count too"
    ),
}
# Cases of parameterised tests that read a kind of data of another library.
LIBRARIES = {"*_torch_*": "torch", "*_grain_*": "grain", "*_sparse_scipy_*": "scipy", "*_sparse_jax_*": "jax"}

MODE = re.compile(r"(\w+?)_(non_jit|graph_fn|graph|eager|jit)$")


def is_installed(library):
    return importlib.util.find_spec(library) is not None


def modes_by_turns(names):
    """Returns the names of tests that are left out, since it is the turn of another mode of the same case."""
    cases = {}
    for match in filter(None, map(MODE.match, sorted(names))):
        cases.setdefault(match[1], []).append(match[0])
    turns = {of_case[i % len(of_case)] for i, of_case in enumerate(cases.values())}
    return {name for of_case in cases.values() for name in of_case} - turns


def import_keras_tests():
    """Imports Keras' tests, which import JAX on every backend, for one test on JAX."""
    name = "keras.src.trainers.trainer_test"
    if importlib.util.find_spec(name) is None:
        pytest.skip("this Keras was installed without its tests", allow_module_level=True)
    if is_installed("jax"):
        return importlib.import_module(name)
    sys.modules["jax"] = types.ModuleType("jax")
    try:
        return importlib.import_module(name)
    finally:
        del sys.modules["jax"]


keras_tests = import_keras_tests()
OTHER_MODES = set() if os.environ.get("KERAS_TESTS") == "all" else modes_by_turns(dir(keras_tests.TestTrainer))

# Keras' tests warn of what they do on purpose: too few data, limits of `keras.config`.
pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning"), pytest.mark.slow]


def reason_to_skip(name):
    """Returns the reason why a test of Keras is left out, or None."""
    reasons = [reason for pattern, reason in LEFT_OUT.items() if fnmatch.fnmatch(name, pattern)]
    reasons += [
        f"needs {library}, which is not installed"
        for pattern, library in LIBRARIES.items()
        if fnmatch.fnmatch(name, pattern) and not is_installed(library)
    ]
    if name in OTHER_MODES:
        reasons.append("another mode's turn: the same case runs in it, and in this one with KERAS_TESTS=all")
    return next(iter(reasons), None)


class StepCount(keras_tests.StepCount):
    """Keras' own, but a call that is cut short by the end of an epoch tells its true last step.

    Keras tells there the step with which a full call would have ended: 8 for a call of the steps 6..6.
    """

    def on_batch_end(self, batch, logs=None):
        first = self.end_count * self.steps_per_execution
        if not first <= batch < first + self.steps_per_execution:
            raise ValueError("Batch index is not correct")
        self.end_count += 1


class TestTrainerOnTwoReplicas(keras_tests.TestTrainer):
    @pytest.fixture(autouse=True)
    def _tfdist_in_place_of_keras(self, make_strategy, monkeypatch):
        for name in ("fit", "evaluate", "predict"):
            monkeypatch.setattr(TensorFlowTrainer, name, getattr(tfdist, name))
        monkeypatch.setattr(keras_tests, "StepCount", StepCount)
        self.strategy = make_strategy(2)

    def setUp(self):
        if reason := reason_to_skip(self._testMethodName):
            self.skipTest(reason)
        super().setUp()
        self.enterContext(self.strategy.scope())


@pytest.mark.parametrize("pattern", [*LEFT_OUT, *LIBRARIES])
def test_whatever_is_left_out_is_among_keras_tests(pattern):
    assert fnmatch.filter(dir(keras_tests.TestTrainer), pattern)
