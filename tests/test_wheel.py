"""The package as it is installed: a wheel, outside the checkout, with all that the commands need."""

import os
import shutil

import pytest
from support.processes import REPOSITORY, run_python

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Builds a wheel and installs it into a folder; returns the environment in which Python finds that one."""
    folder = tmp_path_factory.mktemp("wheel")
    # A copy, because setuptools leaves its work behind, and takes old work for new.
    shutil.copytree(REPOSITORY / "tfdist", folder / "source" / "tfdist", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder / "source")
    build = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, folder / "source")
    assert run_python("-m", "pip", *build).code == 0
    (wheel,) = folder.glob("tfdist-*.whl")
    assert run_python("-m", "pip", "install", "--quiet", "--no-deps", "--target", folder / "site", wheel).code == 0
    return {"PYTHONPATH": os.fspath(folder / "site")}


def test_commands_run_from_a_wheel(installed, tmp_path):
    where = "import tfdist, sys; print(tfdist.__file__)"
    assert run_python("-c", where, environ=installed, folder=tmp_path).out.startswith(installed["PYTHONPATH"])
    launch = ("-m", "tfdist.launch", "--workers=1", "--", "-m", "tfdist.train", "--steps=2", "--run_dir=run")
    ended = run_python(*launch, environ=installed, folder=tmp_path)
    assert ended.code == 0, ended.err
    assert (tmp_path / "run" / "model.keras").is_file()
    # With its style sheet, which is no Python file.
    assert run_python("-m", "tfdist.report", "run", environ=installed, folder=tmp_path).code == 0
    assert "prefers-color-scheme" in (tmp_path / "run" / "report.html").read_text()


def test_a_recipe_by_name_is_told_where_recipes_are(installed, tmp_path):
    ended = run_python("-m", "tfdist.train", "--recipe=digits_cnn", environ=installed, folder=tmp_path)
    hint = "Give the path of a Python file. Examples are in the folder recipes of tfdist's repository."
    assert (ended.code, ended.err) == (2, f"tfdist.train: --recipe=digits_cnn: there is no such file. {hint}\n")
