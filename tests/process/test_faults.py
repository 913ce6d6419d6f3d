"""Fault injection: the syntax of faults, and which worker has them when."""

import pytest
from support.processes import run_python

from tfdist.process.faults import ATTEMPT, FAULTS, Fault, Faults, PlannedFaultError, make_faults, parse


def test_faults_are_read_from_one_line():
    assert parse("kill:worker=1,step=50; slow:seconds=0.5,point=call,attempt=1") == (
        Fault("kill", worker=1, step=50),
        Fault("slow", point="call", attempt=1, seconds=0.5),
    )
    assert parse("") == ()
    assert parse("torn_checkpoint:step=3")[0].point == "save_end"


@pytest.mark.parametrize(
    "text, message",
    [
        ("burn:worker=1", "'burn' is not a kind of fault. Use one of kill, term,"),
        ("kill:rank=1", "'rank' is unknown. Use worker, step,"),
        ("kill:step=soon", "step is 'soon'. Use a number."),
        ("kill:point=never", "'never' is not a point. Use one of start, step,"),
        ("kill:step=-1", "a number is below 0"),
        ("torn_checkpoint:point=step", "at 'step' there is no checkpoint. Use one of save_begin, save_files,"),
    ],
)
def test_a_wrong_fault_is_refused_with_the_allowed_values(text, message):
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        parse(text)


def test_a_fault_is_injected_once_at_its_attempt_point_and_step(capsys):
    faults = make_faults({FAULTS: "exception:worker=1,step=5,attempt=2", ATTEMPT: "2"})(1)
    assert faults.waits_at("step") and not faults.waits_at("call")
    faults.inject("step", 4)
    faults.inject("call", 5)
    with pytest.raises(PlannedFaultError, match="worker=1"):
        faults.inject("step", 6)
    assert "injected fault after step 6: exception:worker=1,step=5,point=step,attempt=2" in capsys.readouterr().err
    faults.inject("step", 7)
    assert not faults.waits_at("step")


def test_other_workers_and_later_attempts_have_no_fault():
    planned = parse("exception:worker=1")
    Faults(planned, worker=0).inject("step", 9)
    Faults(planned, worker=1, attempt=1).inject("step", 9)
    make_faults({})(1).inject("step", 9)


@pytest.mark.parametrize("kind, code", [("kill", -9), ("term", -15), ("exit", 0)])
def test_a_process_ends_as_its_fault_says(kind, code):
    script = f"from tfdist.process.faults import *; Faults(parse('{kind}')).inject('step', 0); raise SystemExit(1)"
    assert run_python("-c", script, deadline_seconds=30).code == code


def test_a_torn_checkpoint_loses_half_of_its_largest_file_and_the_process(tmp_path):
    (tmp_path / "large").write_bytes(bytes(100))
    (tmp_path / "small").write_bytes(bytes(10))
    script = (
        "import pathlib; from tfdist.process.faults import *; "
        f"Faults(parse('torn_checkpoint')).inject('save_end', 0, pathlib.Path({str(tmp_path)!r}))"
    )
    assert run_python("-c", script, deadline_seconds=30).code == -9
    assert [(tmp_path / name).stat().st_size for name in ("large", "small")] == [50, 10]
