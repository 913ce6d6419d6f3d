"""Charts of made runs: what they draw, and that no line is told from another by its colour alone."""

import collections
import itertools
import re

import pytest
from support.made_runs import MadeRun, killed_run, write_run

from tfdist.report import charts
from tfdist.report.goodput import PAUSE, STEPS, Piece
from tfdist.report.read import read_runs


@pytest.fixture
def runs(tmp_path):
    return read_runs([write_run(tmp_path / name, killed_run()) for name in ("a", "b")])


def texts(svg):
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_every_number_of_the_lines_has_a_chart(runs):
    assert [title for title, _ in charts.make_charts(runs)] == [
        *("loss", "accuracy", "rows per second", "waiting for input, share of a step", "learning rate"),
        "own work of a worker in a step, ms",
    ]


def test_lines_are_told_by_marks_dashes_and_names_beside_their_colours(runs):
    (_, svg), *_ = charts.make_charts(runs)
    assert {"a training", "b training", "a validation", "b validation", "step"} <= set(texts(svg))
    # Of each run the line of the training is drawn, and that of the validation dashed, with its own mark.
    lines = re.findall(r'style="fill: none; (stroke-dasharray: [^;]+)?[^"]*stroke: var\(--(s\d\d)\)', svg)
    assert sorted((colour, bool(dashes)) for dashes, colour in lines) == [
        *(("s00", False), ("s00", True), ("s01", False), ("s01", True)),
    ]
    marks = {colour: set(re.findall(rf'href="#(\w+)"[^>]*fill: var\(--{colour}\)', svg)) for colour in ("s00", "s01")}
    assert marks["s00"] and marks["s01"] and not marks["s00"] & marks["s01"]


def test_the_line_of_a_run_is_seen_under_that_of_an_equal_one(runs):
    (_, svg), *_ = charts.make_charts(runs)
    looks = re.findall(r'style="fill: none; ([^"]*stroke: var\(--s\d\d\)[^"]*)"', svg)
    widths = {re.search(r"--(s\d\d)", look)[1]: float(re.search(r"stroke-width: ([\d.]+)", look)[1]) for look in looks}
    assert widths["s00"] >= 2 * widths["s01"]


def test_one_run_needs_no_name_at_its_lines(runs):
    (_, svg), *_ = charts.make_charts(runs[:1])
    assert {"training", "validation"} <= set(texts(svg))


def test_lines_without_steps_are_drawn_over_the_epochs(tmp_path):
    run = MadeRun()
    run.lines = [{"epoch": epoch, "loss": 1 / epoch} for epoch in (1, 2, 3)]
    ((title, svg),) = charts.make_charts(read_runs([write_run(tmp_path / "run", run)]))
    assert title == "loss" and "epoch" in texts(svg)


def test_colours_are_those_of_the_style_sheet_and_the_names_of_parts_are_of_one_chart_each(runs):
    drawn = [svg for _, svg in charts.make_charts(runs)] + [
        charts.make_time_line(runs),
        charts.make_time_line(runs, 11),
    ]
    for svg in drawn:
        assert set(re.findall(r"#[0-9a-f]{6}", svg)) == set()
    names = [set(re.findall(r' id="([^"]*)"', svg)) for svg in drawn]
    assert all(names)
    assert len(set.union(*names)) == sum(map(len, names))


def test_the_time_line_has_each_kind_with_its_hatch_and_each_failure(runs):
    svg = charts.make_time_line(runs)
    assert texts(svg).count("✕1") == texts(svg).count("✕2") == 2
    kinds = ("steps that count, with their input", "checkpoint", "validation", "start", "repeated steps", "restart")
    assert {kind for kind in kinds if kind not in texts(svg)} == set()
    # Those that are not steps have a pattern each.
    assert len(re.findall("<pattern ", svg)) == 5
    assert "minutes since" not in svg and "seconds since" in svg


def test_there_is_no_time_line_without_times(tmp_path):
    run = MadeRun()
    assert charts.make_time_line(read_runs([write_run(tmp_path / "run", run)])) == ""


def test_pieces_that_can_be_seen_are_drawn_as_they_were():
    spans = [
        ("start", 0, 10),
        (STEPS, 10, 12),
        ("validation", 12, 14),
        (STEPS, 14, 15),
        (PAUSE, 15, 20),
        (STEPS, 20, 29),
    ]
    drawn = [list(span) for span in spans if span[0] != PAUSE]
    # One of another kind that is too short to be seen is in no legend either.
    spans.append(("repeated steps", 29, 29.1))
    assert charts._merge([Piece(*span, 0) for span in spans], 1.0) == drawn


def test_of_pieces_too_short_to_be_seen_each_kind_keeps_its_share_of_the_time_line():
    pieces, now = [Piece("start", 0.0, 10.0, 0)], 10.0
    for epoch in range(1000):
        for kind, seconds in ((STEPS, 2.0), ("validation", 0.5), ("checkpoint", 0.25)):
            pieces.append(Piece(kind, now, now + seconds, epoch))
            now += seconds
    drawn = charts._merge(pieces, now / 400)
    assert len(drawn) < 200
    assert all(before[2] == after[1] for before, after in itertools.pairwise(drawn))
    spent = collections.Counter()
    for kind, begin, end in drawn:
        spent[kind] += end - begin
    assert spent == {"start": 10.0, STEPS: 2000.0, "validation": 500.0, "checkpoint": 250.0}


def test_names_at_close_ends_stand_apart_and_within_the_chart():
    placed = charts._spread([(1.0, "c"), (0.99, "b"), (0.0, "a"), (1.0, "d")], 0.0, 1.0)
    heights = [height for height, _ in placed]
    assert [text for _, text in placed] == ["a", "b", "c", "d"]
    assert all(above - below >= 0.08 - 1e-9 for below, above in itertools.pairwise(heights))
    assert max(heights) <= 1.0
