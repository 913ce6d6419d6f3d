"""The versions of packages, which are read without importing them."""

import importlib.metadata
import platform

import tfdist
from tfdist.process.versions import read_versions, version_of


def test_versions_are_those_of_the_installed_packages():
    versions = read_versions()
    assert versions["python"] == ".".join(platform.python_version().split(".")[:2])
    assert versions["tfdist"] == tfdist.__version__
    assert versions["keras"] == importlib.metadata.version("keras")
    assert versions["numpy"] == importlib.metadata.version("numpy")
    assert versions["tensorflow"][0].isdigit()


def test_a_distribution_that_is_not_installed_has_no_version():
    assert version_of("tfdist-nobody-has-this") is None
