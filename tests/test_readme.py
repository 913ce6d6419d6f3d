"""The README: short, with two scripts that run as they stand; tests/test_docs.py reads it too."""

import pathlib
import re

import pytest
from support.pages import blocks
from support.processes import REPOSITORY, run_python

README = REPOSITORY / "README.md"
SCRIPTS = {block.mark: block.text for block in blocks(README, "python")}
LOGGED = {
    "fit": "strategy one_device (no cluster of several workers, no TPU, no GPU): 1 replica.",
    "by hand": "strategy mirrored (asked for; no GPU, so 2 logical CPU devices): 2 replicas.",
}


def test_it_is_short():
    assert len(README.read_text().splitlines()) <= 200


def test_the_two_examples_are_there():
    assert list(SCRIPTS) == ["fit", "by hand"]


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_python_of_the_readme_runs(name, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPTS[name])
    ended = run_python("-W", "ignore", script, folder=tmp_path)
    assert ended.code == 0, ended.err[-3000:]
    assert LOGGED[name] in ended.err


@pytest.mark.multi_worker
def test_its_own_model_also_trains_on_two_workers(tmp_path):
    (tmp_path / "mine.py").write_text(SCRIPTS["fit"])
    ended = run_python("-m", "tfdist.launch", "--workers=2", "--", "mine.py", folder=tmp_path)
    assert ended.code == 0, ended.err[-3000:]
    assert "strategy multi_worker (the cluster has 2 workers): 2 replicas." in ended.err + ended.out
    assert list((tmp_path / "runs" / "mine" / "checkpoints").iterdir())


def test_the_tree_is_the_one_on_disk():
    house = (REPOSITORY / "docs" / "architecture.md").read_text()
    tree = re.search(r"## The tree\n\n```\n(.*?)```", house, re.DOTALL)[1]
    shown, folder = set(), pathlib.Path()
    for line in tree.splitlines():
        name, phrase = line.split(None, 1) if len(line.split(None, 1)) == 2 else (line.strip(), "")
        if line.startswith("  "):
            shown.add(f"tfdist/{name}")
            assert phrase, f"{name} has no phrase"
        else:
            folder = name
            shown.add(folder)
    real = {f"tfdist/{item.name}{'/' * item.is_dir()}" for item in (REPOSITORY / "tfdist").iterdir()}
    real -= {"tfdist/__pycache__/"}
    assert {item for item in shown if item.startswith("tfdist/") and item != "tfdist/"} == real
    for name in shown:
        assert (REPOSITORY / name).exists(), name


def test_the_table_of_equality_is_the_measured_one():
    def summary(name):
        return re.search(r"\| family \|.*?\*\*all\*\*.*?\n", (REPOSITORY / name).read_text(), re.DOTALL)[0]

    assert summary("README.md") == summary("EQUIVALENCE.md")
