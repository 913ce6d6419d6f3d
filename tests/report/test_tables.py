"""What the tables of a report say of made runs."""

import pytest
from support.made_runs import MadeRun, killed_run, write_run

from tfdist.report import tables
from tfdist.report.read import read_runs


@pytest.fixture
def write(tmp_path):
    """Returns a function (name, run) → the `RunRecord` of a folder that it writes."""

    def written(name, run=None, **more):
        return read_runs([write_run(tmp_path / name, run or killed_run(), **more)])[0]

    return written


def by_title(*runs):
    return {table.title: table for table in tables.make_tables(runs)}


def test_of_two_runs_the_one_flag_that_differs_is_named(write):
    found = by_title(write("a", config={"seed": 1}), write("b", config={"seed": 2}))["What differs in the configs"]
    assert (found.columns, found.rows) == (("", "a", "b"), [("seed", "1", "2")])


def test_of_mappings_within_a_config_only_what_differs_is_named(write):
    options = [{"optimizer": {"name": "sgd", "clipnorm": norm, "more": {}}} for norm in (1.0, None)]
    found = by_title(*(write(name, config=config) for name, config in zip("ab", options, strict=True)))
    assert found["What differs in the configs"].rows == [("optimizer.clipnorm", "1.0", "null")]


def test_an_option_that_one_config_lacks_differs_and_a_lost_config_does_not(write, tmp_path):
    without = write("without")
    (tmp_path / "lost" / "logs").mkdir(parents=True)
    (lost,) = read_runs([tmp_path / "lost"])
    found = by_title(without, write("with", config={"ema_momentum": None}), lost)
    assert found["What differs in the configs"].rows == [("ema_momentum", "–", "null", "–")]
    assert "What differs in the configs" not in by_title(without, lost)


def test_both_kills_are_in_the_table_with_their_lost_time(write):
    run = write("run")
    first, second = by_title(run)["Restarts"].rows
    assert first[:2] + first[3:] == (
        *("run", "1", "worker 1 was killed by signal 9 (SIGKILL)", "10", "10", "3.5 s", "10.0 s", "13.5 s"),
    )
    assert second[3:] == ("worker 0 was killed by signal 9 (SIGKILL)", "25", "25", "2.5 s", "10.0 s", "12.5 s")
    result = dict(by_title(run)["Result"].rows)
    assert result["restarts"] == "2, 26.0 s lost"
    assert result["goodput"] == f"{100 * run.account.goodput:.1f} %"


def test_the_table_of_the_time_has_every_kind_with_its_share(write):
    run = write("run")
    table = by_title(run, write("other"))["Where the time went"]
    assert table.columns == ("", "run", "other")
    wall = run.account.wall
    assert table.rows[0] == ("steps that count", *[f"28.5 s, {2850 / wall:.1f} %"] * 2)
    assert [row[0] for row in table.rows] == list(run.account.seconds)


def test_the_speed_of_a_run_that_has_ended_is_that_of_the_whole_run_in_every_row(write):
    run = MadeRun()
    last = {"examples_per_second": 900.0, "step_seconds": 0.05, "input_share": 0.5}
    run.lines = [{"event": "start", "replicas": 2}, {"epoch": 1, "examples_per_second_per_replica": 450.0, **last}]
    workers = [{"step_seconds": 0.01, "input_share": 0.1}, {"step_seconds": 0.03, "input_share": 0.2}]
    whole = dict(by_title(write("run", run, summary={"examples_per_second": 500.0, "workers": workers}))["Result"].rows)
    names = ("rows per second", "… of a replica", "ms a step", "… waiting for input")
    assert [whole[name] for name in names] == ["500", "250", "20", "20.0 %"]
    part = dict(by_title(write("part", run, summary={"examples_per_second": None}))["Result"].rows)
    assert [part[name] for name in names] == ["900", "450", "50", "50.0 %"]


def test_restarts_that_only_the_summary_knows_have_no_times(write):
    known = [{"kind": "failure", "cause": "worker 1 was lost", "workers": 2}]
    run = MadeRun()
    run.lines = [{"epoch": 1, "loss": 0.5}]
    rows = by_title(write("run", run, summary={"restarts": known}))["Restarts"].rows
    assert rows == [("run", "1", "–", "worker 1 was lost", *["–"] * 5)]


@pytest.mark.parametrize(
    ("lines", "summary", "state"),
    [
        ([], True, "finished"),
        ([], False, "unknown"),
        ([{"event": "start"}], False, "going on, or killed: no line says that it ended"),
        ([{"event": "end", "reason": "stopped", "cause": "SIGTERM"}], True, "stopped: SIGTERM"),
        (
            [{"event": "end", "reason": "finished"}, {"event": "start"}],
            True,
            "going on, or killed: no line says that it ended",
        ),
    ],
)
def test_the_state_of_a_run_is_that_of_its_last_line(write, tmp_path, lines, summary, state):
    run = MadeRun()
    run.lines = lines
    write("run", run)
    if not summary:
        (tmp_path / "run" / "summary.json").unlink()
    (read,) = read_runs([tmp_path / "run"])
    assert tables.state(read) == state


def test_the_exchange_says_how_many_kinds_of_weights_go_as_factors(write, tmp_path):
    run = write("run")
    assert dict(by_title(run)["Result"].rows)["exchange"] == "auto"
    found = '{"how": "measured", "found": [{"by_factors": true}, {"by_factors": false}]}'
    (tmp_path / "run" / "exchange.json").write_text(found)
    rows = by_title(*read_runs([tmp_path / "run"]))["Result"].rows
    assert dict(rows)["exchange"] == "auto: factors for 1 of 2 kinds of weights, measured"


def test_values_of_another_type_than_tfdist_writes_are_left_out(write):
    wrong = {"metrics": 3, "workers": "two", "versions": None, "restarts": {}, "steps": "many", "replicas": [2]}
    run = MadeRun()
    run.lines = [
        {"epoch": "one", "loss": [1], "step": True, "time": "now"},
        {"event": 3},
        {"event": "start", "step": None},
    ]
    rows = by_title(write("run", run, summary=wrong))["Result"].rows
    assert [label for label, _ in rows] == ["rows per second", "exchange"]


def test_numbers_that_no_run_has_are_shown_all_the_same(write):
    run = MadeRun()
    run.lines = [{"event": "start", "time": 1e30}, {"epoch": 1, "time": 1e30, "loss": 1e30, "accuracy": -0.5}]
    rows = dict(by_title(write("run", run, summary={"metrics": {}}))["Result"].rows)
    assert (rows["loss"], rows["accuracy"], rows["last line"]) == ("1e+30", "-0.5", "–")


def test_the_text_for_a_terminal_says_what_is_missing_and_has_every_table(write, tmp_path):
    (tmp_path / "logs").mkdir()
    (bare,) = read_runs([tmp_path])
    text = tables.to_text([write("run"), bare])
    assert text.startswith(f"{tmp_path.name}: metrics.jsonl is not there")
    assert [title for title in by_title(write("again")) if f"\n{title}\n" not in text] == []
    assert all(line == line.rstrip() for line in text.splitlines())


def test_what_would_steer_a_terminal_is_replaced_in_its_text(write):
    run = MadeRun()
    run.lines = [{"epoch": 1, "red\x1b[31m": 0.5, "two\nlines": 0.25}]
    rows = [line.split() for line in tables.to_text([write("run", run, summary={"metrics": {}})]).splitlines()]
    assert ["red\ufffd[31m", "0.5"] in rows
    assert ["two\ufffdlines", "0.25"] in rows


def test_half_of_a_character_is_replaced_and_whole_ones_stay(write):
    run = MadeRun()
    run.lines = [{"epoch": 1, "\ud800x": 1, "\U0001f600": 2}, {"event": "end", "reason": "failed", "cause": "\udcff"}]
    record = write("run", run, summary={}, config={"name": "\udfff"})
    assert tables.metrics_of(record.lines) == ["?x", "\U0001f600"]
    assert (tables.state(record), record.config["name"]) == ("failed: ?", "?")


@pytest.mark.parametrize("step", [17, 18])
@pytest.mark.parametrize(("finished", "state"), [(True, "finished"), (False, "stopped")])
def test_a_run_that_was_killed_at_its_end_has_ended_once_its_results_are_written(write, step, finished, state):
    run = MadeRun()
    run.lines = [{"event": "start", "step": 12}, {"epoch": 3, "step": step}]
    assert tables.state(write("run", run, summary={"steps": 18, "finished": finished})) == state
    going_on = "going on, or killed: no line says that it ended"
    assert tables.state(write("more", run, summary={"steps": 12, "finished": finished})) == going_on
    assert tables.state(write("later", run, summary={"steps": 17 - 2, "finished": finished})) == going_on


def test_two_runs_stay_beside_each_other_in_a_terminal(write):
    versions = {name: "12.34.56" for name in ("python", "tfdist", "tensorflow", "keras", "numpy")}
    a, b = (write(name, summary={"versions": versions}) for name in "ab")
    lines = tables.to_text([a, b]).split("Where the time went")[0].splitlines()
    assert max(map(len, lines)) <= 100
    place = next(at for at, line in enumerate(lines) if line.startswith("versions"))
    both = [line.split("  ") for line in lines[place : place + 3]]
    words = " ".join(part for row in both for part in row if part)
    assert words.count("tensorflow 12.34.56,") == 2
    (alone,) = [line for line in tables.to_text([a]).splitlines() if line.startswith("versions")]
    assert alone.endswith("numpy 12.34.56")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (63.21, "63.2 s"), (599.9, "599.9 s"), (3599.6, "1:00:00 h"), (93784.0, "26:03:04 h")],
)
def test_long_durations_are_hours_minutes_and_seconds(seconds, text):
    assert tables._duration(seconds) == text
