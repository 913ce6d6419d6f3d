"""tfdist's lines are shown once, on stderr where the program does not configure logging."""

import io
import logging
import subprocess
import sys

import pytest
from support.processes import REPOSITORY, run_python

from tfdist.process import log

SPEAK = "from tfdist.process import log; log.say('one'); log.warn('two'); log.say('three')"


def test_without_a_logging_of_ones_own_lines_go_to_stderr_once():
    ended = run_python("-c", SPEAK, deadline_seconds=30)
    assert (ended.code, ended.out) == (0, "")
    assert ended.err == "tfdist: one\ntfdist: two\ntfdist: three\n"


@pytest.mark.parametrize(
    ("setup", "heard"),
    [
        ("logging.basicConfig(format='%(name)s %(message)s')", "tfdist two\n"),
        (
            "logging.basicConfig(format='%(levelname)s %(message)s', level='INFO')",
            "INFO one\nWARNING two\nINFO three\n",
        ),
        ("logging.getLogger('tfdist').setLevel('WARNING')", "tfdist: two\n"),
        ("logging.getLogger('tfdist').setLevel('ERROR')", ""),
        ("logging.getLogger('tfdist').addHandler(logging.NullHandler())", ""),
    ],
)
def test_the_programs_own_logging_decides(setup, heard):
    ended = run_python("-c", f"import logging; {setup}; {SPEAK}", deadline_seconds=30)
    assert (ended.code, ended.err) == (0, heard)


def test_a_screen_that_is_added_later_shows_no_line_twice_and_a_file_has_them():
    configure = "import logging; logging.basicConfig(); logging.root.addHandler(logging.FileHandler('/dev/stdout'))"
    ended = run_python("-c", f"{SPEAK}; {configure}; {SPEAK}", deadline_seconds=30)
    assert ended.err == 2 * "tfdist: one\ntfdist: two\ntfdist: three\n"
    assert ended.out == "one\ntwo\nthree\n"


def test_importing_sets_nothing_up():
    script = "import logging, tfdist.process.log as log; print(log.logger.handlers, log.logger.level)"
    ended = run_python("-c", script, deadline_seconds=30)
    assert ended.out == "[] 0\n"


def test_lines_have_the_level_of_what_they_ask_for(caplog):
    with caplog.at_level(logging.INFO, logger="tfdist"):
        log.say("to be seen")
        log.warn("to be changed")
    assert caplog.record_tuples == [
        ("tfdist", logging.INFO, "to be seen"),
        ("tfdist", logging.WARNING, "to be changed"),
    ]


def test_of_what_is_logged_meanwhile_explanations_are_kept_and_other_warnings_shown(caplog):
    kept = log.Explanations()
    with kept.collected():
        log.say("training")
        for _ in range(2):
            log.say("couples rows", explains_difference=True)
        log.warn("differs", explains_difference=True)
        log.warn("slow")
    with caplog.at_level(logging.INFO, logger="tfdist"):
        log.say("afterwards")
    assert kept.lines == ["couples rows", "differs"]
    assert caplog.messages == ["slow", "afterwards"]


@pytest.mark.parametrize("broken", [BrokenPipeError, OSError])
def test_a_reader_that_goes_away_ends_nothing(monkeypatch, broken):
    class Gone(io.StringIO):
        def write(self, text):
            raise broken

    monkeypatch.setattr(sys, "stdout", Gone())
    log.show("a line")
    log.show("another one")
    assert sys.stdout is None
    assert not log.is_terminal()


@pytest.mark.slow
def test_a_closed_stdout_ends_no_training(tmp_path):
    command = f"{sys.executable} -m tfdist.train --model=mlp --steps=2 --run_dir={tmp_path}/run >&-"
    ended = subprocess.run(["bash", "-c", command], cwd=REPOSITORY, stderr=subprocess.PIPE, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "run" / "summary.json").is_file()


LOADING = """
import os, sys
from tfdist.process.log import quiet_loading
try:
    with quiet_loading():
        os.write(2, b"banner ")
        {ending}
except ImportError as error:
    os.write(2, f"{{error}} ".encode())
os.write(2, b"later " + os.environ["TF_CPP_MIN_LOG_LEVEL"].encode())
"""


@pytest.mark.parametrize(
    ("ending", "environ", "err"),
    [
        ("pass", {}, "later 3"),
        ("raise ImportError('no library')", {}, "banner no library later 3"),
        ("pass", {"TF_CPP_MIN_LOG_LEVEL": "0"}, "banner later 0"),
    ],
)
def test_what_libraries_write_while_they_load_is_shown_only_when_they_fail(ending, environ, err, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    ended = run_python("-c", LOADING.format(ending=ending), environ=environ, deadline_seconds=30)
    assert (ended.code, ended.err) == (0, err)


def test_libraries_load_where_no_temporary_file_can_be_made(monkeypatch):
    def refuse():
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr(log.tempfile, "TemporaryFile", refuse)
    environ, loaded = {}, []
    with log.quiet_loading(environ):
        loaded.append("library")
    assert (loaded, environ) == (["library"], {"TF_CPP_MIN_LOG_LEVEL": "3"})
