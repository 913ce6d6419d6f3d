"""The checks one after the other: a crash, a hang, an error or a difference is one line, and the rest goes on."""

import json
import os
import re
import sys

import pytest
from support.processes import REPOSITORY

from tfdist.doctor import command as doctor
from tfdist.doctor.acceptance import examine, page
from tfdist.doctor.acceptance.checks import CHECKS, MACHINE
from tfdist.doctor.acceptance.runs import RunFailedError
from tfdist.process.child import ChildGroup, Start


class StandInRuns:
    """Stands in for `Runs`: one run is resumed with other weights, and the other one fails."""

    def __init__(self, folder, environ, seconds):
        assert folder.is_dir()

    def by_name(self):
        return {"kill_and_resume": lambda: ("b" * 64, "a" * 64), "twice_the_same": self.fail}

    def fail(self):
        raise RunFailedError("repeated: tfdist.train ended with code 2, not 0")


@pytest.fixture
def accept(tmp_path, monkeypatch, capsys):
    """Returns a function (faults, flags) → (exit code, the lines of the page by place and name, the page)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(examine, "Runs", StandInRuns)
    fake = str(REPOSITORY / "tests" / "support" / "fake_place.py")
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}

    def run(*faults, flags=(), replicas=2):
        def open_place(name):
            count = replicas if name == MACHINE else 2
            return ChildGroup([Start((sys.executable, fake, name, str(count), *faults), environ)])

        monkeypatch.setattr(examine, "_open_place", open_place)
        code = doctor.main(["--acceptance", "--timeout_seconds=10", *flags])
        printed = capsys.readouterr().out
        assert printed == (tmp_path / "tfdist-acceptance.txt").read_text()
        _, table, *_ = printed.split("\n\n")
        rows = [line.split() for line in table.splitlines()[1:]]
        return code, {(row[0], row[1]): row[2:] for row in rows}, printed

    return run


def test_each_check_has_a_line_for_each_place_in_order(accept):
    code, lines, text = accept(flags=["--only=mlp,evaluate,tf_data_speed,tf32"])
    assert code == 0
    assert list(lines) == [
        ("machine", "mlp"),
        ("machine", "tf32"),
        ("machine", "evaluate"),
        ("machine", "tf_data_speed"),
        ("split", "mlp"),
        ("split", "evaluate"),
    ]
    assert lines["machine", "mlp"][:2] == ["right", "0.0e+00,"]
    assert lines["machine", "tf32"] == ["not", "here", "no", "GPU", "with", "TF32", "-"]
    assert lines["machine", "tf_data_speed"][:3] == ["measured", "1,000", "rows/s,"]
    assert text.splitlines()[-1].startswith("ALL RIGHT: 4 right, 1 measured, 1 not here; ")


@pytest.mark.slow
def test_a_crash_a_hang_an_error_and_a_difference_are_one_line_each_and_the_rest_goes_on(accept):
    faults = ("machine:mlp=crash", "split:gather_rows=hang", "split:predict=wrong", "machine:attention=raise")
    code, lines, text = accept(*faults)
    assert code == 1
    assert len(lines) == sum(len(check.places) for check in CHECKS)
    assert lines["machine", "gather_rows"][0] == lines["split", "mlp"][0] == "right"
    failed = {key for key, line in lines.items() if line[0] == "failed"}
    # Each check that trains the dense layers meets that crash.
    crashed = {(MACHINE, check.name) for check in CHECKS if check.what == "mlp" and check.name != "tf32"}
    assert failed == crashed | {("split", "gather_rows"), ("machine", "attention"), ("machine", "deterministic")}
    assert {key for key, line in lines.items() if line[0] == "differs"} == {
        ("split", "predict"),
        ("machine", "kill_and_resume"),
    }
    assert " ".join(lines["split", "gather_rows"]).startswith("failed no answer within 10 s")
    assert "its process ended with code -11" in text and "RuntimeError: NCCL has no such type" in text
    assert "split gather_rows: no answer within 10 s. It hangs, or needs more time: raise --timeout_seconds." in text
    assert "weights_sha256 bbbbbbbb, aaaaaaaa" in text
    assert "by 2.5e-01, at most 3.5e-04 (float32)" in text
    assert text.splitlines()[-1].startswith("NOT RIGHT: ")
    assert len(text.splitlines()) <= 60 and max(map(len, text.splitlines())) <= 100


def test_one_replica_compresses_nothing(accept):
    code, lines, _ = accept(flags=["--only=compression_float16"], replicas=1)
    assert code == 0
    assert " ".join(lines["machine", "compression_float16"]) == "not here one replica exchanges nothing -"
    assert lines["split", "compression_float16"][0] == "right"


def test_a_place_without_a_strategy_is_one_line_and_the_other_place_goes_on(accept):
    code, lines, text = accept("machine:about=raise", flags=["--only=mlp,predict"])
    assert code == 1
    assert list(lines) == [("machine", "strategy"), ("split", "mlp"), ("split", "predict")]
    assert "machine has no strategy, because RuntimeError: NCCL has no such type;" in text


def test_an_oracle_that_fails_is_named(accept):
    code, lines, text = accept("oracle:mlp=raise", flags=["--only=mlp,predict"])
    assert (code, lines["machine", "mlp"][0], lines["machine", "predict"][0]) == (1, "failed", "right")
    assert "plain Keras on one CPU device: RuntimeError: NCCL has no such type" in text


def test_an_interrupt_leaves_the_part_of_the_page_that_is_there(accept, monkeypatch):
    def interrupted(*_):
        yield page.Outcome("machine", "mlp", "right", "0.0e+00", 1.0)
        raise KeyboardInterrupt

    monkeypatch.setattr(examine, "examine", interrupted)
    code, lines, text = accept()
    assert (code, list(lines)) == (130, [("machine", "mlp")])
    assert text.splitlines()[-1].startswith("INTERRUPTED: 1 right; ")


def test_the_last_line_has_the_time_that_has_passed(accept, monkeypatch):
    monkeypatch.setattr(examine, "examine", lambda *_: [page.Outcome("machine", "mlp", "right", "0.0e+00", 9000.0)])
    _, _, text = accept()
    assert int(re.search(r"; (\d+) s in all.$", text.strip())[1]) < 9000


def test_a_cluster_is_not_ignored_in_silence(accept, monkeypatch, capsys):
    task = {"type": "worker", "index": 0}
    cluster = {"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}, "task": task}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    code, _, text = accept(flags=["--only=predict"])
    assert code == 0
    assert "TF_CONFIG describes 2 workers, but the checks use this machine alone." in " ".join(text.split())
    monkeypatch.setenv("TF_CONFIG", "{cluster")
    assert doctor.main(["--acceptance", "--only=predict"]) == 2
    assert capsys.readouterr().err.startswith("tfdist.doctor: TF_CONFIG: not JSON at line 1")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tfdist-acceptance.txt").mkdir()
    assert doctor.main(["--acceptance"]) == 2
    assert "Start in a folder that can be written." in capsys.readouterr().err
