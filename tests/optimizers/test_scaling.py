"""Learning-rate scaling and the length of a warm-up, against figures computed by hand."""

import numpy as np
import pytest
from support.processes import run_python

from tfdist import optimizers
from tfdist.optimizers import describe, scale_learning_rate, warmup_steps


@pytest.mark.parametrize(
    ("rule", "global_batch", "expected"),
    [
        ("linear", 256, 0.1),
        ("linear", 1024, 0.4),
        ("linear", 8192, 3.2),  # ResNet-50 of Goyal et al. 2017
        ("linear", 64, 0.025),
        ("square_root", 256, 0.1),
        ("square_root", 1024, 0.2),
        ("square_root", 64, 0.05),
    ],
)
def test_promise_38_the_learning_rate_fits_the_global_batch(rule, global_batch, expected):
    scaled = scale_learning_rate(0.1, global_batch=global_batch, rule=rule)
    assert type(scaled) is float
    assert scaled == pytest.approx(expected, rel=1e-15)


def test_the_rate_may_be_given_for_another_base_batch():
    assert scale_learning_rate(1e-3, global_batch=96, base_batch=32) == pytest.approx(3e-3, rel=1e-15)


def test_numbers_of_numpy_are_numbers():
    assert scale_learning_rate(np.float64(0.1), global_batch=np.int64(512)) == 0.2
    assert warmup_steps(examples=np.int64(6250), global_batch=np.int32(1024)) == 7


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        ({"steps": 100}, 100),
        ({"steps": 0}, 0),
        ({"examples": 6250, "global_batch": 1024}, 7),
        ({"examples": 6144, "global_batch": 1024}, 6),
        ({"examples": 0, "global_batch": 1024}, 0),
        ({"epochs": 5, "rows": 1_281_167, "global_batch": 8192}, 785),  # 157 steps an epoch
        ({"epochs": 5, "rows": 1_281_167, "global_batch": 256}, 25_025),
        ({"epochs": 0.5, "rows": 90, "global_batch": 32}, 2),  # half of 3
        ({"epochs": 2.2, "rows": 800, "global_batch": 32}, 55),  # 2.2 * 25 is above 55 in floating point
    ],
)
def test_promise_38_a_warmup_is_given_in_steps_examples_or_epochs(length, expected):
    assert warmup_steps(**length) == expected


# An epoch of 16000 rows has 250, 125 and, rounded up, 63 steps.
@pytest.mark.parametrize(("replicas", "in_epochs"), [(1, 1000), (2, 500), (4, 252)])
def test_promise_38_rate_and_warmup_are_derived_again_for_another_number_of_replicas(replicas, in_epochs):
    global_batch = 64 * replicas
    assert scale_learning_rate(0.1, global_batch=global_batch, base_batch=64) == pytest.approx(0.1 * replicas)
    assert warmup_steps(examples=64_000, global_batch=global_batch) == 1000 // replicas
    assert warmup_steps(epochs=4, rows=16_000, global_batch=global_batch) == in_epochs


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"global_batch": 1024}, "learning rate 0.1 for 256 rows -> 0.4 for 1024 rows (linear)"),
        (
            {"global_batch": 1024, "examples": 6250},
            "learning rate 0.1 for 256 rows -> 0.4 for 1024 rows (linear), warm-up over 6250 examples = 7 steps",
        ),
        (
            {"global_batch": 128, "base_batch": 32, "rule": "square_root", "epochs": 0.5, "rows": 1000},
            "learning rate 0.1 for 32 rows -> 0.2 for 128 rows (square_root), warm-up over 0.5 epochs = 4 steps",
        ),
        (
            {"global_batch": 256, "steps": 9},
            "learning rate 0.1 for 256 rows, warm-up over 9 steps",
        ),
    ],
)
def test_promise_38_one_line_describes_what_was_derived(arguments, line):
    assert describe(0.1, **arguments) == line


RATE = "scale_learning_rate: "


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": 0}, RATE + "learning_rate is 0. Use a finite number above 0."),
        ({"learning_rate": float("nan")}, RATE + "learning_rate is nan. Use a finite number above 0."),
        ({"learning_rate": "0.1"}, RATE + "learning_rate is '0.1'. Use a finite number above 0."),
        ({"learning_rate": True}, RATE + "learning_rate is True. Use a finite number above 0."),
        ({"global_batch": 0}, RATE + "global_batch is 0. Use a whole number from 1."),
        ({"global_batch": 256.0}, RATE + "global_batch is 256.0. Use a whole number from 1."),
        ({"base_batch": -1}, RATE + "base_batch is -1. Use a whole number from 1."),
        ({"rule": "log"}, RATE + "rule is 'log'. Use one of linear, square_root."),
    ],
)
@pytest.mark.parametrize("function", [scale_learning_rate, describe])
def test_a_rate_that_cannot_be_scaled_is_refused(function, arguments, message):
    with pytest.raises(ValueError) as caught:
        function(**{"learning_rate": 0.1, "global_batch": 256, **arguments})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("length", "message"),
    [
        ({}, "no length is given. Give exactly one of steps, examples, epochs."),
        ({"rows": 10}, "no length is given. Give exactly one of steps, examples, epochs."),
        ({"steps": 10, "epochs": 5}, "steps is 10 and epochs is 5. Give exactly one of steps, examples, epochs."),
        ({"steps": 1.5}, "steps is 1.5. Use a whole number from 0."),
        ({"examples": -1, "global_batch": 8}, "examples is -1. Use a whole number from 0."),
        ({"epochs": -0.5, "rows": 8, "global_batch": 8}, "epochs is -0.5. Use a finite number from 0."),
        ({"examples": 100}, "examples is 100, but global_batch is missing. Give it too."),
        ({"epochs": 5, "rows": 100}, "epochs is 5, but global_batch is missing. Give it too."),
        ({"epochs": 5, "global_batch": 10}, "epochs is 5, but rows is missing. Give it too."),
        ({"epochs": 5, "global_batch": 0, "rows": 9}, "global_batch is 0. Use a whole number from 1."),
        ({"steps": 5, "global_batch": 10}, "steps is 5, so global_batch (10) has no effect. Leave it out."),
        ({"examples": 5, "global_batch": 10, "rows": 7}, "examples is 5, so rows (7) has no effect. Leave it out."),
    ],
)
def test_a_length_that_is_missing_or_given_twice_is_refused(length, message):
    with pytest.raises(ValueError) as caught:
        warmup_steps(**length)
    assert str(caught.value) == f"warm-up: {message}"


def test_the_line_refuses_a_number_of_rows_without_a_warmup():
    with pytest.raises(ValueError, match=r"no length is given"):
        describe(0.1, global_batch=256, rows=1000)


def test_the_package_and_its_arithmetic_leave_tensorflow_unimported():
    script = """
import sys
from tfdist import optimizers
dir(optimizers), optimizers.describe(0.1, global_batch=512, examples=1000)
print(sorted({"tensorflow", "keras", "numpy"} & set(sys.modules)))
"""
    ended = run_python("-c", script, deadline_seconds=60)
    assert (ended.code, ended.out, ended.err) == (0, "[]\n", "")


def test_an_unknown_name_is_refused_with_the_names_there_are():
    with pytest.raises(AttributeError, match=r"no attribute 'Lars'\. Did you mean 'LARS'\? Public names: .*LARS"):
        optimizers.Lars  # noqa: B018
    assert dir(optimizers) == sorted(["LARS", "WarmUp", "describe", "scale_learning_rate", "warmup_steps"])
