"""The versions of packages, which are read without importing them."""

import configparser
import importlib.metadata
import os
import platform
import re
import sys

import pytest
from support.processes import REPOSITORY, run_python

import tfdist
from tfdist.process.versions import INSTALL_FOR_TPU, TENSORFLOW, check_tensorflow, read_versions, version_of


def test_versions_are_those_of_the_installed_packages():
    versions = read_versions()
    assert versions["python"] == ".".join(platform.python_version().split(".")[:2])
    assert versions["tfdist"] == tfdist.__version__
    assert versions["keras"] == importlib.metadata.version("keras")
    assert versions["numpy"] == importlib.metadata.version("numpy")
    assert versions["tensorflow"][0].isdigit()


def test_a_distribution_that_is_not_installed_has_no_version():
    assert version_of("tfdist-nobody-has-this") is None


# Python reads it at its start: for this process TensorFlow is not installed.
HIDDEN = 'import sys; sys.modules["tensorflow"] = None'
MISSING = (
    "TensorFlow is not installed, and tfdist does not install it, because CPUs, GPUs and TPUs need different builds. "
    "Run: pip install 'tensorflow>=2.20' for CPUs, 'tensorflow[and-cuda]>=2.20' for NVIDIA GPUs on Linux, or "
    "'tensorflow-tpu>=2.20' 'libtpu>=0.0.14,<0.0.22' for TPUs."
)
MODEL = "def build_fn():\n    pass\n"


@pytest.fixture
def without_tensorflow(tmp_path):
    """Returns a function (arguments of python) → an `Ended`, of a process for which TensorFlow is not installed."""
    (tmp_path / "sitecustomize.py").write_text(HIDDEN)
    (tmp_path / "model.py").write_text(MODEL)
    environ = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPOSITORY)]), "CUDA_VISIBLE_DEVICES": ""}
    return lambda *arguments: run_python(*arguments, environ=environ, folder=tmp_path, deadline_seconds=60)


@pytest.mark.parametrize("arguments", [["train"], ["verify", "model.py:build_fn"], ["bench"]], ids=lambda item: item[0])
def test_a_command_without_tensorflow_says_in_one_line_what_to_install(without_tensorflow, arguments):
    name, *rest = arguments
    ended = without_tensorflow("-m", f"tfdist.{name}", *rest)
    assert (ended.code, ended.out, ended.err) == (2, "", f"tfdist.{name}: {MISSING}\n")


def test_the_launcher_and_the_names_that_need_no_tensorflow_work_without_it(without_tensorflow):
    launched = without_tensorflow("-m", "tfdist.launch", "--workers=2", "--", "-m", "tfdist.train")
    assert launched.code == 2 and launched.out == f"[0] tfdist.train: {MISSING}\n", launched.err
    script = """
from tfdist import read_cluster, RunConfig, models, data
print(read_cluster({}), RunConfig().strategy, len(models.names()) > 3)
for name in ("fit", "choose_strategy", "callbacks"):
    try:
        print(getattr(__import__("tfdist"), name))
    except ImportError as error:
        print(type(error).__name__, error)
"""
    ended = without_tensorflow("-c", script)
    assert ended.out.splitlines() == ["None auto True", *[f"MissingPackageError {MISSING}"] * 3], ended.err


def test_what_is_left_of_an_uninstalled_tensorflow_is_no_tensorflow(monkeypatch, tmp_path):
    (tmp_path / "tensorflow" / "lib").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    with pytest.raises(ImportError, match="TensorFlow is not installed, and tfdist does not install it"):
        check_tensorflow()


def test_an_installed_tensorflow_is_found_without_loading_it():
    check_tensorflow()


def test_the_messages_name_what_the_extras_install_and_the_base_installs_no_tensorflow():
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    wanted = {name: config["options.extras_require"][name].split() for name in ("cpu", "cuda", "tpu")}
    assert all(f"'{requirement}'" in MISSING for requirements in wanted.values() for requirement in requirements)
    assert all(f"'{requirement}'" in INSTALL_FOR_TPU for requirement in wanted["tpu"])
    required = re.findall(r"^[\w-]+", config["options"]["install_requires"].strip(), re.MULTILINE)
    assert "keras" in required and not set(TENSORFLOW) & set(required)
