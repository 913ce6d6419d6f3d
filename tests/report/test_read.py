"""What is read from the folder of a run, and what is said of what cannot be read."""

import json

import pytest
from support.made_runs import killed_run, write_run

from tfdist.process.errors import MissingFileError
from tfdist.report.read import read_runs


@pytest.fixture
def folder(tmp_path):
    return write_run(tmp_path / "run", killed_run())


def test_a_whole_folder_lacks_nothing(folder):
    (run,) = read_runs([folder])
    assert (run.name, run.missing, run.sheets) == ("run", (), ())
    assert list(run.lines) == killed_run().lines
    assert (run.summary["steps"], run.config["model"], run.exchange) == (30, "cnn", {})
    assert len(run.account.failures) == 2


def test_of_a_repeated_step_and_epoch_the_last_line_counts(folder):
    lines = [{"step": 5, "loss": 3.0}, {"epoch": 1, "step": 10, "loss": 2.0}, {"step": 5, "loss": 1.0}]
    lines += [
        {"event": "checkpoint", "step": 7, "loss": 9.0},
        {"step": 6, "loss": None},
        {"step": 8, "loss": float("nan")},
    ]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (run,) = read_runs([folder])
    assert run.points("step", "loss") == [(5, 1.0), (10, 2.0)]
    assert run.points("epoch", "loss") == [(1, 2.0)]
    assert (run.last("loss"), run.last("accuracy")) == (9.0, None)


def test_damaged_and_half_written_files_are_told_and_the_rest_is_read(folder):
    lines = (folder / "metrics.jsonl").read_bytes().splitlines()
    (folder / "metrics.jsonl").write_bytes(b"\n".join([b"\xff\x00", *lines, b"[1]", b'{"epoch": 4, "lo']))
    (folder / "summary.json").write_text('{"steps": 3')
    (folder / "config.json").unlink()
    (folder / "exchange.json").write_text("[]")
    (run,) = read_runs([folder])
    assert list(run.lines) == killed_run().lines
    assert (run.summary, run.config, run.exchange) == ({}, {}, {})
    count = len(lines)
    assert run.missing == (
        f"metrics.jsonl: 3 of {count + 3} lines are damaged and left out: 1, {count + 2}, {count + 3}.",
        "summary.json is damaged or half written, and is left out.",
        "config.json is not there (No such file or directory). A run writes it when it starts.",
        "exchange.json is damaged or half written, and is left out.",
    )


def test_lines_of_an_older_tfdist_have_no_times_and_that_is_told(folder):
    (folder / "metrics.jsonl").write_text('{"epoch": 1, "loss": 0.5}\n')
    (run,) = read_runs([folder])
    assert run.missing == ("metrics.jsonl has no line of a start, so it is unknown where the time went.",)
    assert run.points("epoch", "loss") == [(1, 0.5)]


def test_a_run_that_has_just_begun_is_read(tmp_path):
    (tmp_path / "logs").mkdir()
    (run,) = read_runs([tmp_path])
    assert [line.partition(" is not there")[0] for line in run.missing] == [
        "metrics.jsonl",
        "summary.json",
        "config.json",
    ]


def test_the_first_the_middle_and_the_last_sheet_are_picked(folder):
    (folder / "predictions").mkdir()
    for epoch in range(1, 8):
        (folder / "predictions" / f"epoch-{epoch:04}.png").touch()
    (run,) = read_runs([folder])
    assert [path.stem for path in run.sheets] == ["epoch-0001", "epoch-0004", "epoch-0007"]


def test_runs_are_named_by_their_folders_or_by_their_paths_where_these_are_alike(tmp_path):
    paths = [write_run(tmp_path / name, killed_run()) for name in ("a/run", "b/run", "a/other")]
    assert [run.name for run in read_runs(paths[1:])] == ["run", "other"]
    assert [run.name for run in read_runs([*map(str, paths[:2])])] == [str(path) for path in paths[:2]]


def test_no_folder_and_no_folder_of_a_run_are_refused(tmp_path):
    with pytest.raises(MissingFileError, match=r"none: there is no such folder\. Give the folder of a run"):
        read_runs([tmp_path / "none"])
    with pytest.raises(MissingFileError, match=r"is not the folder of a run: it has no metrics\.jsonl"):
        read_runs([tmp_path])
