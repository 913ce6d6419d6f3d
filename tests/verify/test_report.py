"""The text of a comparison, for planted findings."""

import dataclasses

import numpy as np
import pytest

from tfdist.verify import compare
from tfdist.verify.check import Comparison
from tfdist.verify.compare import Difference, Evidence, Result
from tfdist.verify.report import describe

LIMIT = compare.tolerance("float64", 0.0)
EQUAL = {name: Difference(1e-16) for name in compare.QUANTITIES}
REPORT = Comparison([], dict.fromkeys(compare.QUANTITIES, LIMIT), 2, "float64", [], [], own_train_step=False)


def result(rows=16, **wrong):
    """Returns a result in which each quantity in `wrong` differs by 0.5, first in its value."""
    return Result(rows, EQUAL | {name: Difference(0.5, where) for name, where in wrong.items()}, ratio=1.0)


def text_of(*results, **facts):
    return " ".join(describe(dataclasses.replace(REPORT, results=list(results), **facts), "m:f").split())


# The quantity that differs → (results, text).
CAUSES = {
    "a metric": ([result(metrics="iou")], "metric iou: the weights agree Not equal. Metric 'iou' is not made of sums"),
    "weights": (
        [result(weights="a/kernel")],
        "weight a/kernel: the gradients agree Not equal. The gradients",
    ),
    "uneven batches": (
        [result(), result(17, gradients="a/kernel")],
        "Even batches agree and uneven ones do not: all replicas have the same weight, whatever their numbers of rows.",
    ),
    "a factor": (
        [dataclasses.replace(result(gradients="a/kernel"), ratio=3.0)],
        "The gradients are 3 times one device's: the loss is scaled.",
    ),
    "no factor": (
        [dataclasses.replace(result(loss="loss"), ratio=None)],
        "The layers agree, and the loss computes another loss or gradient from them: its denominator is wrong.",
    ),
    "a failure": (
        [Result(16, {}, error="ValueError: no.")],
        "FAILS: ValueError: no. Not equal. The replicas fail where",
    ),
}


@pytest.mark.parametrize("name", CAUSES)
def test_the_likely_cause_is_said(name):
    results, said = CAUSES[name]
    text = text_of(*results)
    assert said in text.replace("tolerance 1.5e-08 1.5e-08 1.5e-08 1.5e-08 ", "")
    assert "Not equal." in text


def test_a_table_has_a_line_for_each_case():
    lines = describe(dataclasses.replace(REPORT, results=[result(), result(17, loss="loss")]), "m:f").splitlines()
    assert lines[2:6] == [
        "       rows       loss  gradients    weights    metrics   largest difference, relative",
        "         16    1.0e-16    1.0e-16    1.0e-16    1.0e-16   equal",
        "         17    5.0e-01    1.0e-16    1.0e-16    1.0e-16   DIFFERS, first in "
        "the loss: the outputs of all layers agree",
        "  tolerance    1.5e-08    1.5e-08    1.5e-08    1.5e-08",
    ]


def test_half_of_the_digits_must_agree_or_ten_times_what_one_device_shows():
    assert compare.tolerance("float64", 1e-12) == 2.0**-26
    assert compare.tolerance("float32", 1e-3) == pytest.approx(1e-2)
    assert compare.tolerance("float32", 0.1) is None
    assert compare.coarsest({"float32", "bfloat16", "int32"}) == "bfloat16"


def evidence(loss, weight, **more):
    return Evidence({"loss": loss}, [("w", np.array(weight))], **more)


def test_differences_are_measured_by_what_training_moves():
    moves = {"trained": frozenset(["w"]), "moved": 1e-3}
    one = evidence(0.5, [1e-4, 0.0]), evidence(0.5, [3.0, 1.0], **moves)
    many = evidence(0.5, [1e-4, 2e-4]), evidence(0.5, [3.0, 1.0005], **moves)
    found = compare.differences(one, many, dtype="float64")
    assert found["gradients"] == Difference(pytest.approx(2.0), "w")
    assert found["weights"] == Difference(pytest.approx(0.5), "w")
    assert found["loss"] == Difference(0.0)


@pytest.mark.parametrize("loss", [np.nan, np.inf, None])
def test_what_is_missing_or_not_finite_is_infinitely_far(loss):
    one = evidence(0.5, [1.0]), evidence(0.5, [1.0])
    many = evidence(loss, [1.0]), evidence(0.5, [1.0])
    assert compare.differences(one, many, dtype="float64")["loss"] == Difference(np.inf, "loss")
    assert compare.differences(many, many, dtype="float64")["loss"].size == 0


def test_a_ratio_is_given_only_where_gradients_are_parallel():
    one = evidence(0, [1.0, 2.0])
    assert compare.ratio(one, evidence(0, [2.0, 4.0])) == pytest.approx(2.0)
    assert compare.ratio(one, evidence(0, [2.0, 1.0])) is None
    assert compare.ratio(evidence(0, [0.0]), evidence(0, [0.0])) is None
