"""The arithmetic of the table, against figures worked out by hand."""

import pytest

from tfdist.benchmark import rounds, table
from tfdist.benchmark.report import make_result

ABOUT = {"global_batch": 100, "gradient_bytes": 3000, "loss_before": 2.0, "loss_after": 1.0}


def test_a_summary_is_what_one_works_out_by_hand():
    # Mean 5; deviations -3, -2, 0, 1, 4: squares sum to 30, variance 7.5, error sqrt(7.5 / 5).
    summary = table.summarise([2, 3, 5, 6, 9])
    assert (summary.median, summary.mean, summary.samples) == (5, 5, 5)
    assert summary.error == pytest.approx(1.224744871)
    # Distances from the median: 3, 2, 0, 1, 4; their median is 2.
    assert summary.jitter == pytest.approx(2.9652)


def test_one_sample_has_no_error():
    assert table.summarise([4.0]).error == 0


def test_efficiency_is_against_as_many_times_one_replica():
    assert table.efficiency(300, 200, 2) == 0.75
    assert table.efficiency(300, None, 2) is None


@pytest.mark.parametrize(("workers", "sent"), [(1, 0), (2, 1000), (4, 1500)])
def test_a_ring_sends_each_byte_on_almost_twice(workers, sent):
    assert table.wire_bytes(1000, workers) == sent


def lines():
    alone = make_result("tfdist_fit", 1, 1, [0.1, 0.2, 0.4], about=ABOUT, base=None, peak_bytes=3 * 2**20)
    split = {"input": 1e-6, "compute": 2e-6, "reduce": 3e-6, "update": 4e-6, "host": 5e-6, "whole": 15e-6}
    two = make_result("tfdist_fit", 2, 1, [0.25], about=ABOUT | {"global_batch": 200}, base=500, split=split)
    slower = make_result("keras_fit", 1, 1, [0.5], about=ABOUT)
    failed = make_result("keras_fit", 2, 1, [], about=None, error="ValueError: PerReplica")
    return [alone, two, slower, failed]


def test_a_line_of_the_report_is_worked_out_from_seconds_of_a_step():
    alone, two, *_ = lines()
    rates = alone["examples_per_second"]
    assert (rates["median"], rates["mean"]) == (500, 1750 / 3)
    assert alone["seconds_per_step"] == 0.2
    # 200 rows in 0.25 s, against twice 500 a second; 2 × 1/2 × 3000 bytes.
    assert (two["examples_per_second"]["median"], two["efficiency"], two["wire_bytes"]) == (800, 0.8, 3000)


def test_the_text_shows_the_figures_and_what_failed():
    text = table.render(lines(), ["a note"])
    rows = [line.split() for line in text.splitlines()]
    assert ["tfdist_fit", "2×1", "800", "800", "±", "0", "0", "250000", "1.00", "80%", "2.93", "KiB"] in rows
    assert ["keras_fit", "1×1", "200", "200", "±", "0", "0", "500000", "2.50", "0"] in rows
    assert ["keras_fit", "2×1", "failed"] in rows
    assert ["tfdist_fit", "2×1", "1", "2", "3", "4", "5", "15"] in rows
    assert "keras_fit 2×1: ValueError: PerReplica\na note" in text
    assert "From sampled loops, not from time stamps in the graph" in text


def test_every_second_round_goes_backwards_and_who_fails_is_left_out():
    told = []

    def measure(name, values):
        def next_one():
            told.append(name)
            return values.pop(0)

        return next_one

    measures = {"a": measure("a", [1, 2, 3]), "b": measure("b", [4, None])}
    assert rounds.interleave(measures, 3) == {"a": [1, 2, 3], "b": [4]}
    assert told == ["a", "b", "b", "a", "a"]


def test_a_measurement_takes_as_long_as_wished_for_and_whole_calls():
    asked = []

    def measure(steps):
        asked.append(steps)
        return 0.001 * steps

    assert rounds.calibrate(measure, 0.3, multiple=50) == 350
    assert all(steps % 50 == 0 for steps in asked)


def test_one_slow_step_is_not_made_longer():
    assert rounds.calibrate(lambda steps: 9.0, 0.3) == rounds.LEAST_STEPS
