"""What tfdist says is heard once, on stderr where nobody has set logging up."""

import logging

import pytest
from support.processes import run_python

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
