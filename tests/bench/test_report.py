"""The chart of a report: rates, and over several numbers of replicas the efficiency."""

import json

from matplotlib.figure import Figure
from support.processes import REPOSITORY

from tfdist.bench import report


def test_the_scaling_of_each_contender_is_drawn_beside_n_times_one_replica():
    results = json.loads((REPOSITORY / "benchmarks" / "results" / "growth" / "bench.json").read_text())["results"]
    ours = [result for result in results if result["contender"] == "tfdist_fit"]
    axes = Figure().subplots()
    report._draw_scaling(axes, ours)
    drawn, ideal = axes.get_lines()
    rates = [result["examples_per_second"]["median"] for result in ours]
    assert list(drawn.get_xdata()) == [1, 2, 4]
    assert list(drawn.get_ydata()) == rates
    assert list(ideal.get_ydata()) == [rates[0], 2 * rates[0], 4 * rates[0]]
    assert [text.get_text() for text in axes.texts] == [f"{result['efficiency']:.0%}" for result in ours[1:]]


def test_a_report_of_one_number_of_replicas_has_the_rates_alone(tmp_path, monkeypatch):
    panels = []
    monkeypatch.setattr(report, "_draw_scaling", lambda axes, results: panels.append(len(results)))
    for name in ("mlp", "growth"):
        found = json.loads((REPOSITORY / "benchmarks" / "results" / name / "bench.json").read_text())
        path = tmp_path / f"{name}.png"
        assert report.draw(found, path) == f"plot: {path}"
        assert path.stat().st_size > 1000
    assert panels == [9]
