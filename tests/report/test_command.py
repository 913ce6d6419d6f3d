"""The command `python -m tfdist.report`: what it writes and prints, where, and its exit codes."""

import datetime
import json
import os
import sys

import pytest
from PIL import Image
from support.made_runs import killed_run, write_run
from support.processes import run_python

from tfdist.report import command
from tfdist.report.read import read_runs


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_run(tmp_path / "run", killed_run()).relative_to(tmp_path)


def test_the_page_of_one_run_lies_in_its_folder_and_of_several_in_the_current_one(folder, tmp_path, capsys):
    assert command.main([str(folder)]) == 0
    page = tmp_path / "run" / "report.html"
    assert capsys.readouterr().out == f"run/report.html, {page.stat().st_size / 1e3:.0f} kB. Open it in a browser.\n"
    write_run(tmp_path / "other", killed_run(), config={"seed": 3})
    assert command.main(["run", "other"]) == 0
    assert (tmp_path / "report.html").read_text().count("<title>run, other</title>") == 1
    assert command.main(["--run_dir=run,other", "--out=pages/both.html"]) == 0
    assert "<title>run, other</title>" in (tmp_path / "pages" / "both.html").read_text()


def test_the_text_needs_no_package_that_draws_and_no_tensorflow(folder, tmp_path):
    script = """
import sys
from tfdist.report.command import main
code = main(["run", "--text"])
print(code, sorted({"tensorflow", "keras", "matplotlib", "PIL", "numpy"} & set(sys.modules)))
"""
    ended = run_python("-c", script, folder=tmp_path, deadline_seconds=60)
    assert (ended.code, ended.err) == (0, "")
    assert "worker 1 was killed by signal 9 (SIGKILL)" in ended.out
    assert ended.out.splitlines()[-1] == "0 []"
    assert list(tmp_path.iterdir()) == [tmp_path / "run"]


def test_without_matplotlib_the_message_says_what_to_install(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert command.main([str(folder)]) == 2
    message = "matplotlib draws the page. Install it (pip install matplotlib), or use --text."
    assert capsys.readouterr().err == f"tfdist.report: {message}\n"
    assert command.main([str(folder), "--text"]) == 0


def test_a_place_that_cannot_be_written_is_one_line(folder, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert command.main([str(folder), "--out=file/page.html"]) == 2
    message = "--out: file/page.html cannot be written (Not a directory). Give a file that you may write."
    assert capsys.readouterr().err == f"tfdist.report: {message}\n"


def test_a_folder_in_place_of_the_file_is_refused(folder, capsys):
    for out in (".", "/"):
        assert command.main([str(folder), f"--out={out}"]) == 2
        message = f"--out is '{out}', which is a folder. Give a file."
        assert capsys.readouterr().err == f"tfdist.report: {message}\n"


def test_names_on_the_disk_that_are_no_text_are_reported_all_the_same(tmp_path, capsys):
    folder = tmp_path / os.fsdecode(b"r\xff")
    write_run(folder, killed_run())
    (folder / "predictions").mkdir()
    Image.new("RGB", (3, 3)).save(folder / "predictions" / os.fsdecode(b"epoch-\xff.png"))
    assert command.main([str(folder)]) == 0
    page = (folder / "report.html").read_text()
    assert "<title>r\ufffd</title>" in page
    assert "<figcaption>r\ufffd, epoch-\ufffd</figcaption>" in page
    assert command.main([str(folder), "--text"]) == 0
    assert f"{tmp_path}/r\ufffd/report.html" in capsys.readouterr().out


def test_an_empty_value_is_refused(folder, capsys):
    assert command.main(["run", ""]) == 2
    assert capsys.readouterr().err == (
        "tfdist.report: there is no run. Give the folder of one, or of several: runs/digits_cnn-1.\n"
    )


@pytest.mark.slow
def test_the_report_of_a_real_run_with_two_kills_has_both_and_their_lost_time_as_the_logs_have_it(tmp_path):
    chaos = "--chaos=kill:worker=0,step=30;kill:worker=0,step=70,attempt=1"
    run = ("-m", "tfdist.train", "--model=mlp", "--epochs=2", "--checkpoint_every_steps=20", "--run_dir=run")
    launch = ("-m", "tfdist.launch", "--workers=1", "--max_restarts=2", "--backoff_seconds=0", chaos, "--", *run)
    ended = run_python(*launch, folder=tmp_path, deadline_seconds=600)
    assert ended.code == 0, ended.err[-3000:]
    (record,) = read_runs([tmp_path / "run"])
    lines, failures = record.lines, record.account.failures
    attempts = json.loads((tmp_path / "run" / "logs" / "launch.json").read_text())
    assert [failure.cause for failure in failures] == [attempt["cause"] for attempt in attempts[:2]]
    assert ["was killed by SIGKILL" in failure.cause for failure in failures] == [True, True]
    assert [failure.resumed for failure in failures] == [20, 60]
    went_on = [line["time"] for line in lines if line.get("event") == "start"][1:]
    for failure, attempt, again in zip(failures, attempts, went_on, strict=False):
        saved = [
            line["time"] for line in lines if line.get("event") == "checkpoint" and line["step"] == failure.resumed
        ]
        assert failure.repeated == pytest.approx(attempt["failed"] - saved[0], abs=1)
        assert failure.restart == pytest.approx(again - attempt["failed"], abs=1)
        # The launcher's own clock of the attempt ends a little later, when all its workers have ended.
        began = datetime.datetime.fromisoformat(attempt["began"]).timestamp()
        assert began <= failure.time <= began + attempt["seconds"] + 1
    account = record.account
    assert account.wall == pytest.approx(lines[-1]["time"] - lines[0]["began"], abs=1)
    assert 0 < account.goodput < 1
    text = run_python("-m", "tfdist.report", "run", "--text", folder=tmp_path, deadline_seconds=60).out
    assert all(failure.cause in text for failure in failures)
