"""The notebooks: each is made from its source, and runs from top to bottom without a network."""

import re

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient
from support.processes import REPOSITORY

SOURCES = sorted((REPOSITORY / "colab").glob("*.py"))
# The last cell is the same in all, so that it runs in one.
PROVES = "mirrored"
# For each cell, on a machine that does other work too; nbclient ends the kernel then.
DEADLINE_SECONDS = 900

every_notebook = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def parts(notebook):
    """Returns the kind and the text of each cell."""
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def codes(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook, kind):
    """Returns what the cells printed ("text") or drew ("image/png")."""
    found = [output for cell in codes(notebook) for output in cell.outputs]
    if kind == "text":
        return "".join(output.text for output in found if output.output_type == "stream")
    return [output.data[kind] for output in found if kind in output.get("data", {})]


def test_there_is_one_for_each_way_to_train():
    assert [path.stem for path in SOURCES] == ["mirrored", "multi_worker", "one_device", "tpu"]


@every_notebook
def test_the_notebook_is_made_from_its_source_and_has_no_outputs(source):
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert parts(notebook) == parts(jupytext.read(source)), "run: jupytext --to ipynb --update colab/*.py"
    assert [(cell.outputs, cell.execution_count) for cell in codes(notebook)] == [([], None)] * len(codes(notebook))
    assert len(codes(notebook)) <= 10


def test_all_begin_with_the_same_set_up_and_end_with_the_same_proof():
    notebooks = [codes(jupytext.read(source)) for source in SOURCES]
    assert len({cells[0].source for cells in notebooks}) == 1
    assert {cells[-1].source.splitlines()[-1] for cells in notebooks} == {
        'run("tfdist.doctor", "--acceptance", *(["--only=predict"] if QUICK else []))'
    }
    assert len({cells[-1].source for cells in notebooks}) == 1


@pytest.mark.slow
@every_notebook
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_notebook_runs_and_shows_that_replicas_are_one_device(source, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("TFDIST_QUICK", "1")
    # What tries to download fails at once.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("TF_CONFIG", raising=False)
    notebook = jupytext.read(source)
    if source.stem != PROVES:
        del notebook.cells[-1]
    NotebookClient(notebook, timeout=DEADLINE_SECONDS, kernel_name="python3").execute(cwd=str(tmp_path))
    printed = outputs(notebook, "text")
    differences = re.findall(r"largest (?:relative )?difference .*: (\S+)", printed)
    assert differences
    assert max(map(float, differences)) < (1e-4 if source.stem == "one_device" else 1e-9)
    assert re.search(r"test accuracy .*0\.\d+", printed)
    assert outputs(notebook, "image/png")
    assert (tmp_path / "tfdist-acceptance.txt").exists() == (source.stem == PROVES)
