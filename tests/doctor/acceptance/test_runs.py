"""Runs of the command that are killed, resumed and repeated, with a command that stands in for it."""

import os
import sys

import pytest
from support.processes import REPOSITORY

from tfdist.doctor.acceptance.runs import RunFailedError, Runs

SAME, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def make_runs(tmp_path):
    """Returns a function (how the command behaves) → `Runs`."""

    def make(how, seconds=30):
        command = (sys.executable, str(REPOSITORY / "tests" / "support" / "fake_train.py"), how)
        return Runs(tmp_path, dict(os.environ), seconds, command)

    return make


def test_a_killed_and_a_repeated_run_are_compared_with_one_undisturbed_run(make_runs, tmp_path):
    runs = make_runs("same")
    assert runs.kill_and_resume() == (SAME, SAME)
    written = (tmp_path / "undisturbed" / "summary.json").stat().st_mtime_ns
    assert runs.twice_the_same() == (SAME, SAME)
    assert (tmp_path / "undisturbed" / "summary.json").stat().st_mtime_ns == written


def test_other_weights_are_told(make_runs):
    runs = make_runs("other")
    assert runs.kill_and_resume() == (OTHER, SAME)
    assert runs.twice_the_same() == ("c" * 64, SAME)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("fails", "undisturbed: tfdist.train ended with code 2, not 0: tfdist.train: no device"),
        ("unkilled", "killed: tfdist.train ended with code 0, not -9"),
    ],
)
def test_a_run_that_ends_otherwise_is_an_error_that_says_how(make_runs, how, message):
    with pytest.raises(RunFailedError, match=f"^{message}$"):
        make_runs(how).kill_and_resume()


def test_a_run_that_hangs_is_killed_at_the_time_limit(make_runs):
    said = r"^undisturbed: tfdist\.train did not end within 1 s\. It hangs, or needs more time: raise --timeout_seconds"
    with pytest.raises(RunFailedError, match=said):
        make_runs("hangs", seconds=1).twice_the_same()
