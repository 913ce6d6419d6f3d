"""The notebooks run from top to bottom."""

import pathlib

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.slow

FOLDER = pathlib.Path(__file__).parent.parent / "colab"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_notebook_runs(path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent))
    monkeypatch.delenv("TF_CONFIG", raising=False)
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=240, kernel_name="python3").execute(cwd=str(FOLDER))
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    # Not only without an exception: each notebook ends by showing something.
    assert all(cell.execution_count for cell in codes)
    assert codes[-1].outputs


def test_the_notebook_for_gpus_names_the_acceptance_before_it_takes_the_devices():
    first = nbformat.read(FOLDER / "mirrored.ipynb", as_version=4).cells[0]
    assert (first.cell_type, "!python -m tfdist.doctor --acceptance" in first.source) == ("markdown", True)
