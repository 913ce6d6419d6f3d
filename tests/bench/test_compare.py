"""Compares an old report with a new one: a planted slow-down is found, and noise alone is not."""

import numpy as np
import pytest
from support.bench_reports import bench_report

from tfdist.bench import compare
from tfdist.bench.config import BenchConfig


def slower_in(trials, factor, noise, seed):
    """Counts the trials in which a step that takes `factor` times as long is called slower."""
    random = np.random.RandomState(seed)
    count = 0
    for _ in range(trials):
        old, new = 1e-3 * np.exp(noise * random.randn(2, 9))
        count += bool(compare.regressions(compare.changes(bench_report(old), bench_report(factor * new))))
    return count


@pytest.mark.parametrize("noise", [0.002, 0.02, 0.1, 0.3])
def test_noise_alone_is_no_regression(noise):
    assert slower_in(400, 1.0, noise, seed=1) <= 4


@pytest.mark.parametrize(("factor", "noise"), [(1.05, 0.005), (1.15, 0.03), (2.0, 0.15)])
def test_a_planted_slow_down_is_one(factor, noise):
    assert slower_in(100, factor, noise, seed=2) >= 97


def test_less_than_three_in_a_hundred_does_not_matter():
    assert slower_in(50, 1.02, 0.001, seed=3) == 0


def test_faster_is_no_regression():
    (change,) = compare.changes(bench_report([1.0, 1.01]), bench_report([0.5, 0.51]))
    assert not change.is_slower
    assert str(change).endswith("faster")


def test_the_noise_is_worked_out_by_hand():
    # Rates 64 and 32: mean 48, error 16; so the noise is 3 × sqrt(2) × 16 / 48.
    (change,) = compare.changes(bench_report([1, 2]), bench_report([1, 2]))
    assert (change.old, change.new) == (48, 48)
    assert change.noise == pytest.approx(2**0.5)


def test_others_may_change_for_they_are_not_tfdist():
    found = compare.changes(bench_report([1, 1.01], "keras_fit"), bench_report([9, 9.01], "keras_fit"))
    assert found[0].is_slower
    assert compare.regressions(found) == []
    with pytest.raises(ValueError, match="share no line of tfdist_fit"):
        compare.check_lines(found)


def test_reports_of_different_things_are_not_compared():
    other = bench_report([1, 1]) | {"measured": BenchConfig(replica_batch=32).measured()}
    with pytest.raises(ValueError, match="the older report is of --replica_batch=32, this one of 64"):
        compare.check_same_task(other, bench_report([1, 1]))
    with pytest.raises(ValueError, match="the file is no report"):
        compare.check_same_task([], bench_report([1, 1]))
