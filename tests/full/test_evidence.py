"""The committed tables hold a row for each row of their matrix, and each says that all was well."""

import pytest
from chaos import every_fault
from equivalence.plants import PLANTS
from equivalence.runner import CASES
from full import every_flag, evidence, planted_faults, slurm, tpu_trace
from support import tpu_programs
from support.processes import REPOSITORY
from support.wrong_calls import COMMANDS

from tfdist.models.catalog import MODELS


def test_what_is_written_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "FOLDER", tmp_path)
    evidence.write("page", "A title", "make page", ("row", "said"), [["a | b", "x\ny"], ["c", 3]])
    rows = {"a | b": {"row": "a | b", "said": "x y"}, "c": {"row": "c", "said": "3"}}
    assert evidence.read_rows(tmp_path / "page.md") == rows


def test_what_a_page_has_is_not_run_again_where_only_what_is_missing_is_wanted(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evidence, "FOLDER", tmp_path)
    page = {"name": "page", "title": "A title", "command": "make page", "columns": ("row", "as it should be")}

    def run(row):
        if row == "b":
            raise KeyboardInterrupt
        return [row, "yes"]

    with pytest.raises(KeyboardInterrupt):
        evidence.measure(["a", "b"], run, ["--missing"], **page)
    assert list(evidence.read_rows(tmp_path / "page.md")) == ["a"]
    capsys.readouterr()
    assert evidence.measure(["a", "b"], lambda row: [row, "NO"], ["--missing"], **page) == 1
    assert capsys.readouterr().out == "b · NO\n2 rows, 1 not as they should be\nb\n"
    assert "`make page`; 1 of the 2 rows were measured at earlier commits." in (tmp_path / "page.md").read_text()
    rows = evidence.read_rows(tmp_path / "page.md")
    assert {name: row["as it should be"] for name, row in rows.items()} == {"a": "yes", "b": "NO"}


def test_a_row_that_comes_twice_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "FOLDER", tmp_path)
    evidence.write("page", "A title", "make page", ("row", "said"), [["a", 1], ["a", 2]])
    with pytest.raises(ValueError, match=r"page\.md has the row 'a' twice"):
        evidence.read_rows(tmp_path / "page.md")


def test_the_table_of_equivalence_has_every_row_and_each_is_equal():
    rows = evidence.read_rows(REPOSITORY / "EQUIVALENCE.md")
    assert list(rows) == list(CASES)
    for name, row in rows.items():
        assert float(row["tfdist"]) < CASES[name].tolerance, name
        assert float(row["two workers"]) < CASES[name].tolerance, name
        assert int(row["replicas"]) == CASES[name].replicas, name


def test_the_table_of_planted_faults_has_every_row_and_each_row_and_each_fault_is_in_it():
    rows = evidence.read_rows(evidence.FOLDER / "planted_faults.md")
    assert list(rows) == planted_faults.ROWS
    assert {row["planted"] for row in rows.values()} == {plant.name for plant in PLANTS}
    for name, row in rows.items():
        assert row["as it should be"] == "yes", name
        assert float(row["times the tolerance"]) >= planted_faults.TIMES, name


def test_the_table_of_wrong_calls_has_every_row_and_each_is_as_it_should_be():
    rows = evidence.read_rows(REPOSITORY / "docs" / "evidence" / "wrong_calls.md")
    assert list(rows) == list(map(str, COMMANDS))
    for command in COMMANDS:
        row = rows[str(command)]
        assert (row["as it should be"], int(row["exit code"])) == ("yes", command.code)
        assert command.message in row["message"]


def test_the_table_of_flags_has_every_row_and_each_is_as_it_should_be():
    rows = evidence.read_rows(evidence.FOLDER / "flags.md")
    assert list(rows) == [str(row) for row in every_flag.rows()]
    assert {name: row["last line"] for name, row in rows.items() if row["as it should be"] != "yes"} == {}


def test_the_table_of_faults_has_every_row_and_each_is_as_it_should_be():
    rows = evidence.read_rows(evidence.FOLDER / "faults.md")
    assert list(rows) == every_fault.rows()
    assert {name: row["cause"] for name, row in rows.items() if row["as it should be"] != "yes"} == {}


def test_the_table_of_traces_for_a_tpu_has_every_row_and_each_is_as_it_should_be():
    rows = evidence.read_rows(evidence.FOLDER / "tpu_trace.md")
    assert list(rows) == [str(row) for row in tpu_trace.rows()]
    assert {name: row["what is said"] for name, row in rows.items() if row["as it should be"] != "yes"} == {}


def test_the_table_of_sizes_has_every_model_and_each_is_as_it_should_be():
    rows = evidence.read_rows(evidence.FOLDER / "model_sizes.md")
    assert list(rows) == list(MODELS)
    for name, row in rows.items():
        sizes = str(MODELS[name].parameters), str(MODELS[name].multiply_adds)
        assert (row["as it should be"], row["parameters"], row["multiply-adds"]) == ("yes", *sizes)


def test_the_table_of_slurm_has_every_job_and_each_is_as_it_should_be():
    rows = evidence.read_rows(evidence.FOLDER / "slurm.md")
    assert list(rows) == [str(row) for row in slurm.ROWS]
    assert {name: row["state"] for name, row in rows.items() if row["as it should be"] != "yes"} == {}


def test_fifty_random_kills_lost_nothing():
    (row,) = evidence.read_rows(evidence.FOLDER / "random_kills.md").values()
    assert (row["row"], row["as it should be"]) == ("50 kills of 2 workers", "yes")


def test_the_table_of_programs_for_a_tpu_has_every_row_and_each_compiled():
    rows = evidence.read_rows(evidence.FOLDER / "tpu_compile.md")
    assert list(rows) == [str(row) for row in tpu_programs.PROGRAMS]
    assert {name: row["error"] for name, row in rows.items() if row["as it should be"] != "yes"} == {}
