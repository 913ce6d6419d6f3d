"""Checks the arithmetic of the table against figures computed by hand."""

import pytest

from tfdist.bench import rounds, table
from tfdist.bench.report import make_result
from tfdist.measure import parts
from tfdist.measure.summary import summarize

ABOUT = {"global_batch": 100, "summed_bytes": 3000, "gathered_bytes": 0, "loss_before": 2.0, "loss_after": 1.0}


def test_a_summary_is_what_one_works_out_by_hand():
    # Mean 5; deviations -3, -2, 0, 1, 4: squares sum to 30, variance 7.5, error sqrt(7.5 / 5).
    summary = summarize([2, 3, 5, 6, 9])
    assert (summary.median, summary.mean, summary.samples) == (5, 5, 5)
    assert summary.error == pytest.approx(1.224744871)
    # Distances from the median: 3, 2, 0, 1, 4; their median is 2.
    assert summary.jitter == pytest.approx(2.9652)


def test_one_sample_has_no_error():
    assert summarize([4.0]).error == 0


def test_efficiency_is_against_as_many_times_one_replica():
    assert table.efficiency(300, 200, 2) == 0.75
    assert table.efficiency(300, None, 2) is None


@pytest.mark.parametrize(("workers", "sent"), [(1, 0), (2, 1000), (4, 1500)])
def test_a_ring_sends_each_byte_on_almost_twice(workers, sent):
    assert table.wire_bytes(1000, workers) == sent


def test_what_is_gathered_goes_to_each_other_worker_once():
    # 2 × 3/4 × 1000 of the sums, and 3 × 100.
    assert table.wire_bytes(1000, 4, gathered=100) == 1800


def test_bytes_that_grow_as_a_ring_s_do_have_grown_by_nothing_more():
    assert table.sent_growth(1000, 2, 1500, 4) == pytest.approx(1)
    assert table.sent_growth(1000, 2, 3000, 4) == pytest.approx(2)


# Loop, or fit → seconds of a step in three rounds; the second one is twice as slow throughout.
ROUNDS = {
    "compute": [3.0, 6.0, 3.0],
    "alone": [4.0, 8.0, 4.0],
    "reduce": [2.0, 4.0, 2.0],
    "kept": [7.0, 14.0, 7.5],
    "read": [9.0, 18.0, 9.0],
    "fit": [10.0, 20.0, 10.0],
}


def test_the_parts_of_a_step_are_differences_and_make_up_the_whole():
    found = parts.attribute(**{name: values[0] for name, values in ROUNDS.items()})
    # 10 in all, of which 4 are what one device does too, and 2 what the replicas reduce.
    assert found.pop("overhead") == 4
    assert found == {"input": 2, "compute": 3, "update": 1, "reduce": 2, "wait": 1, "host": 1, "whole": 10}
    assert sum(found.values()) == 2 * found["whole"]
    assert {*ROUNDS} == {*parts.LOOPS, "fit"}


def test_the_parts_are_medians_of_differences_within_the_rounds():
    found = parts.split(ROUNDS)
    assert [found["input"][name] for name in ("median", "samples")] == [2, 3]
    # 1, 2 and 1.5; their distances from the median are 0.5, 0.5 and 0.
    assert (found["wait"]["median"], found["wait"]["jitter"]) == (1.5, pytest.approx(0.7413))
    assert parts.part_of_step(found, "overhead") == pytest.approx(0.4)


def lines():
    alone = make_result("tfdist_fit", 1, 1, [0.1, 0.2, 0.4], about=ABOUT, base=None, peak_bytes=3 * 2**20)
    loops = {"compute": 2e-6, "alone": 5e-6, "reduce": 4e-6, "kept": 14e-6, "read": 15e-6, "fit": 21e-6}
    split = parts.split({name: [seconds] for name, seconds in loops.items()})
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
    shown = [row for row in rows if row[:2] == ["tfdist_fit", "2×1"]][-1]
    assert shown[2:] == ["1", "±", "0", *"2±0 3±0 4±0 5±0 6±0 12±0 21±0".replace("±", " ± ").split()]
    assert "keras_fit 2×1: ValueError: PerReplica\na note" in text
    assert "from loops and not from time stamps in the graph" in text


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
