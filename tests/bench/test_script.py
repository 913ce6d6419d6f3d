"""Checks the benchmark scripts' report, and the goals read from it. No time is asserted."""

import json
import pathlib

import pytest
from support.bench_reports import ABOUT

from benchmarks import defaults, exchange_table, first_fit, goals, restart
from tfdist.bench import script, table
from tfdist.bench.report import make_result
from tfdist.measure import parts


def one_report(**samples):
    return script.make_report({name: [{"s": value} for value in values] for name, values in samples.items()}, 3, {})


def test_a_report_has_medians_of_each_figure_with_what_they_were_made_of():
    report = one_report(a=[3.0, 1.0, 8.0], b=[2.0])
    assert (script.median(report, "a", "s"), script.median(report, "b", "s")) == (3, 2)
    assert report["results"]["a"]["s"]["values"] == [3, 1, 8]
    assert {"hardware", "versions", "commit", "rounds", "measured"} <= report.keys()


def test_the_table_leaves_empty_what_a_contender_does_not_tell():
    report = script.make_report({"a": [{"s": 1.0}, {"s": 3.0}], "b": [{"ms": 5.0}]}, 2, {})
    rows = [line.split() for line in script.render(report["results"]).splitlines()]
    assert rows == [["medians", "±", "error", "s", "ms"], ["a", "2", "±", "1"], ["b", "5"]]


def test_the_measures_are_run_and_written(tmp_path, capsys):
    given = script.read_flags(
        ["--rounds=2", f"--out_dir={tmp_path / 'new'}"], text="", out_dir=pathlib.Path("results/mine"), default_rounds=9
    )
    script.run({"a": lambda: {"s": 4.0}}, given, measured={"of": "nothing"})
    report = json.loads((tmp_path / "new" / "measured.json").read_text())
    assert (report["rounds"], report["measured"]) == (2, {"of": "nothing"})
    assert report["results"]["a"]["s"]["values"] == [4, 4]
    assert capsys.readouterr().out.splitlines()[1].split() == ["a", "4", "±", "0"]


@pytest.mark.parametrize("flag", ["--rounds=0", "--rounds=x", "--round_s=3"])
def test_a_wrong_flag_is_one_message(flag, capsys):
    with pytest.raises(SystemExit):
        script.read_flags([flag], text="", out_dir=pathlib.Path("results/mine"), default_rounds=9)
    assert "error: " in capsys.readouterr().err


def test_what_is_added_grows_by_the_difference_of_the_differences():
    # 3 ms more than the other with one worker, 5 ms more with many, where the other takes 20 ms.
    assert table.added_growth(10e-3, 7e-3, 25e-3, 20e-3) == pytest.approx(0.1)


def bench_lines(**seconds):
    """Returns a report with a line per contender and number of workers, named as in plain_loop_2."""
    named = [(*name.rsplit("_", 1), value) for name, value in seconds.items()]
    lines = [make_result(name, int(workers), 1, [value], about=ABOUT, peak_bytes=100) for name, workers, value in named]
    return {"results": lines}


def test_the_goals_of_a_bench_are_read_from_its_lines():
    report = bench_lines(tfdist_fit_1=10e-3, plain_loop_1=7e-3, tfdist_fit_4=25e-3, plain_loop_4=20e-3)
    assert goals.time_against(report, "plain_loop") == pytest.approx(0.7)
    assert goals.growth(report, "plain_loop", 4) == pytest.approx(0.1)
    assert goals.sent(report | {"results": bench_lines(a_2=1.0, a_4=1.0)["results"]}, "a", 2, 4) == pytest.approx(1)
    report["results"][0]["peak_memory_bytes"] = 120
    assert goals.memory_against(report, "plain_loop") == pytest.approx(1.2)


def test_the_growth_is_the_median_of_the_rounds_so_that_a_drift_leaves_it_alone():
    report = bench_lines(tfdist_fit_1=10e-3, plain_loop_1=7e-3, tfdist_fit_4=25e-3, plain_loop_4=20e-3)
    for line in report["results"]:
        (seconds,) = line["samples_seconds_per_step"]
        line["samples_seconds_per_step"] = [seconds, 3 * seconds, seconds]
    assert goals.growth(report, "plain_loop", 4) == pytest.approx(0.1)


def test_the_overhead_of_a_step_is_read_from_its_parts():
    report = bench_lines(tfdist_fit_2=100.0)
    loops = {"compute": [40.0], "alone": [50.0], "reduce": [44.0], "kept": [95.0], "read": [98.0], "fit": [100.0]}
    report["results"][0]["split"] = parts.split(loops)
    overhead, waiting = (goal for goal in goals.GOALS if goal.report == "two_workers")
    assert (overhead.figure(report), waiting.figure(report)) == (pytest.approx(0.06), pytest.approx(0.03))
    assert not overhead.is_met(0.06) and waiting.is_met(0.03)


def test_one_that_failed_is_never_met():
    report = bench_lines(tfdist_fit_1=1e-3)
    report["results"].append(make_result("keras_fit", 1, 1, [], about=None, error="ValueError: PerReplica"))
    assert goals.time_against(report, "keras_fit") == 0


def test_a_goal_says_whether_it_is_met():
    most = goals.Goal("start", "seconds", float, most=3.0)
    assert most.line(2.5) == "met      start: seconds: 2.5 (goal: at most 3)"
    assert most.line(3.5) == "NOT MET  start: seconds: 3.5 (goal: at most 3)"
    least = goals.slower("mlp", "keras_fit", 3.0)
    assert least.is_met(3.0) and not least.is_met(2.9)


@pytest.mark.parametrize(
    ("name", "results", "value"),
    [
        ("input", {"tfdist": {"images/s per core": 90.0}, "tf.data by hand": {"images/s per core": 100.0}}, 0.9),
        ("shuffle", {"digits, shuffled": {"ms for its order": 0.1, "ms an epoch": 20.0}}, 0.005),
        ("start", {"tfdist.train": {"s to the first step": 4.0}, "import tensorflow": {"s to the end": 2.5}}, 1.5),
    ],
)
def test_the_goals_of_the_scripts_are_read_from_their_figures(name, results, value):
    report = script.make_report({contender: [figures] for contender, figures in results.items()}, 1, {})
    goal = next(goal for goal in goals.GOALS if goal.report == name)
    assert goal.figure(report) == pytest.approx(value)
    assert goal.is_met(value)


def test_the_goals_against_stock_are_ratios_of_its_figures():
    case = defaults.cases(1)[0]
    named = {case.name(one): [{defaults.FIGURE: value}] for one, value in (("keras_fit", 900.0), ("tfdist_fit", 300.0))}
    (fast,) = (
        goal for goal in goals.default_goals() if goal.report == "defaults" and goal.text.startswith(", ".join(case))
    )
    assert fast.figure(script.make_report(named, 1, {})) == pytest.approx(3)
    assert fast.least == 3
    case = first_fit.RESNET20, first_fit.MIRRORED
    named = {
        first_fit.name(*case, one): [{first_fit.FIRST: value}]
        for one, value in (("keras_fit", 8.0), ("tfdist_fit", 4.0))
    }
    (cheap,) = (goal for goal in goals.first_fit_goals() if goal.text.startswith(", ".join(case)))
    assert cheap.figure(script.make_report(named, 1, {})) == pytest.approx(0.5)
    assert cheap.most == 1


def test_the_time_of_a_restart_is_from_the_last_call_to_the_next(tmp_path):
    (tmp_path / "attempt-0").write_text("12.0\n10.0\n")
    assert restart.read_times(tmp_path / "attempt-0") == [10.0, 12.0]


def test_every_report_has_a_goal_and_every_goal_a_report():
    exchanged = {exchange_table.report_name(model, "loopback", 2) for model in goals.EXCHANGED}
    assert {goal.report for goal in goals.GOALS} == {*goals.BENCHES, *goals.SCRIPTS, *exchanged}
    assert all((goals.HERE / f"{file}.py").is_file() for file, *_ in goals.SCRIPTS.values())


def test_the_committed_report_is_written_over_only_when_it_is_asked_for():
    given = script.read_flags([], text="", out_dir=pathlib.Path("results/mine"), default_rounds=9)
    assert given.out_dir == pathlib.Path("runs/mine")
