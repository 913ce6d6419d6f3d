"""Medians, spreads, shares and the slowest worker, against figures computed by hand."""

import math

import pytest

from tfdist.callbacks.worker_table import (
    Timing,
    advice,
    describe,
    median_and_spread,
    over_epochs,
    per_worker,
    scalars,
    slowest,
    timing_of,
)


def timing(step=0.1, spread=0.0, own=0.05, waiting=0.0, sent=0.0):
    """Returns a `Timing` whose steps all take the same time."""
    return Timing(step, spread, own, waiting, step, sent)


@pytest.mark.parametrize(
    ("values", "median", "spread"),
    [
        ([3.0], 3.0, 0.0),
        ([1.0, 2.0, 3.0, 4.0, 100.0], 3.0, 1.4826),
        # The distances from 2.5 are 1.5, 0.5, 0.5 and 1.5, and their median is 1.
        ([1.0, 2.0, 3.0, 4.0], 2.5, 1.4826),
        ([7.0, 7.0, 7.0, 7.0, 0.0], 7.0, 0.0),
    ],
)
def test_the_spread_is_the_median_absolute_deviation_made_comparable(values, median, spread):
    assert median_and_spread(values) == (median, pytest.approx(spread))


def test_calls_of_different_lengths_count_by_the_step_in_medians_and_by_their_time_in_means():
    # (steps, seconds, waiting, own, bytes): 0.1, 0.2 and 0.6 seconds a step.
    calls = [(10, 1.0, 0.5, 0.4, 1000.0), (10, 2.0, 0.5, 1.0, 1000.0), (5, 3.0, 0.5, 1.0, 500.0)]
    found = timing_of(calls)
    assert found.step_seconds == pytest.approx(0.2)
    # The distances from the median are 0.1, 0 and 0.4.
    assert found.step_spread == pytest.approx(0.14826)
    assert found.own_seconds == pytest.approx(0.1)
    assert found.input_seconds == pytest.approx(1.5 / 25)
    assert found.mean_seconds == pytest.approx(6 / 25)
    assert found.input_share == pytest.approx(0.25)
    assert found.bytes_reduced == 100.0
    assert found.late_seconds == pytest.approx(0.16)


def test_without_a_call_nothing_is_known_and_nothing_is_said():
    nothing = [timing_of([])]
    assert math.isnan(nothing[0].step_seconds)
    assert (scalars(nothing), per_worker(nothing), describe(nothing)) == ({}, [{"worker": 0}], "")
    assert advice(nothing, replicas=2) == {}
    assert (scalars([]), describe([])) == ({}, "")


def test_epochs_come_together_and_one_without_a_measure_counts_nothing():
    epochs = [Timing(), timing(0.1, 0.01, 0.05, 0.02), timing(0.2, 0.03, 0.15, 0.04), timing(0.9, 0.05, 0.25, 0.06)]
    found = over_epochs(epochs)
    assert (found.step_seconds, found.step_spread, found.own_seconds) == (0.2, 0.03, 0.15)
    assert found.input_share == pytest.approx(0.12 / 1.2)
    assert math.isnan(over_epochs([Timing()]).step_seconds)


@pytest.mark.parametrize(
    ("late", "worker", "ratio"),
    [
        ([0.1, 0.3], 1, 3.0),
        ([0.2, 0.2], 0, 1.0),
        # The median of 0.1, 0.2 and 0.4 is 0.2, whatever the slowest does.
        ([0.1, 0.2, 5.0, 0.4], 2, 25.0),
    ],
)
def test_the_slowest_worker_is_held_against_the_median_of_the_others(late, worker, ratio):
    assert slowest([timing(own=seconds) for seconds in late]) == (worker, pytest.approx(ratio))


def test_waiting_for_input_makes_a_worker_late_too():
    assert slowest([timing(own=0.05, waiting=0.0), timing(own=0.01, waiting=0.09)]) == (1, pytest.approx(2.0))


def test_one_worker_alone_is_not_the_slowest_nor_where_one_is_not_known():
    assert slowest([timing()]) is None
    assert slowest([timing(), timing(own=math.nan)]) is None


def test_the_logs_have_one_number_of_each_kind_with_four_digits():
    workers = [timing(0.1, 0.001, 0.05, 0.01, 154536.0), timing(0.123456, 0.002, 0.11, 0.0, 154536.0)]
    assert scalars(workers) == {
        "step_seconds": 0.1117,
        "step_spread": 0.002,
        "input_share": 0.1,
        "bytes_reduced_per_step": 154536.0,
        "slowest_worker": 1.0,
    }
    assert per_worker(workers)[1] == {
        "worker": 1,
        "step_seconds": 0.1235,
        "step_spread": 0.002,
        "own_seconds": 0.11,
        "input_share": 0.0,
    }
    assert "own_seconds" not in per_worker([timing(own=math.nan)])[0]


def test_the_last_line_says_it_all():
    one = timing(0.0123, 0.0004, 0.01, 0.00123)
    assert describe([one]) == "12.3 ms a step (± 0.4), 10 % waiting for input"
    two = [timing(0.1, 0.002, 0.03, 0.0, 2.5e6), timing(0.1, 0.001, 0.09, 0.0, 2.5e6)]
    assert describe(two) == (
        "2 workers: 100 ms a step (± 2), 0 % waiting for input, 2.5 MB a replica to reduce, "
        "slowest: worker 1, 3 times the other"
    )
    assert describe([*two, two[0]]).endswith("slowest: worker 1, 3 times the median of the others")


@pytest.mark.parametrize(
    ("workers", "kinds"),
    [
        ([timing(own=0.09), timing(own=0.08)], set()),
        ([timing(own=0.07), timing(own=0.09)], {"slowest"}),
        ([timing(own=0.02), timing(own=0.04)], {"exchange", "slowest"}),
        # The same ratio, but a difference of only 1 % of the step.
        ([timing(step=1.0, own=0.02), timing(step=1.0, own=0.03)], {"exchange"}),
        ([timing(own=0.09), timing(own=0.06, waiting=0.03)], {"input"}),
        ([timing(own=0.08), timing(own=0.07, waiting=0.019)], set()),
        ([timing(own=math.nan), timing(own=math.nan)], set()),
    ],
)
def test_advice_is_given_where_it_is_due(workers, kinds):
    assert set(advice(workers, replicas=2)) == kinds


def test_advice_names_the_worker_and_its_figures():
    workers = [timing(own=0.02), timing(own=0.05, waiting=0.03)]
    lines = advice(workers, replicas=2)
    assert lines["slowest"].startswith(
        "worker 1 is the slowest: its gradients are ready 80 ms after a step begins (30 ms of it waiting for input), "
        "4 times as late as the other, and all wait for it."
    )
    assert lines["input"].startswith("worker 1 waits for input 30 % of the time.")
    assert advice(workers[1:], replicas=1)["input"].startswith("the training waits for input 30 % of the time.")


def test_a_global_batch_that_too_many_replicas_share_is_told_with_its_rows():
    lines = advice([timing(own=0.02), timing(own=0.02)], replicas=4, global_batch=50)
    assert lines["exchange"].startswith(
        "4 replicas share each global batch of 50 rows, 12.5 each, and only 20 % of a step is work on them;"
    )
    # One replica exchanges nothing, and the batch does not cause a straggler.
    assert advice([timing(own=0.02)], replicas=1) == {}
    assert set(advice([timing(own=0.02), timing(own=0.09)], replicas=2)) == {"slowest"}


def test_indexed_slices_are_reported_by_variable_with_several_replicas():
    line = advice([timing(own=0.09)], replicas=2, sparse=("a/embeddings", "b/embeddings"))["sparse"]
    assert line.startswith("the gradient of a/embeddings and 1 more is IndexedSlices:")
    assert advice([timing(own=0.09)], replicas=1, sparse=("a/embeddings",)) == {}
