"""Each public name shows in its docstring how it is used, and these examples run."""

import importlib
import inspect
import re
import textwrap

import pytest
from support.pages import execute

PACKAGES = ("tfdist", "tfdist.callbacks", "tfdist.data", "tfdist.models", "tfdist.optimizers", "tfdist.jobs")
WITHOUT = {
    # A package.
    "tfdist.callbacks",
    # Used as the first of their kind are.
    *("tfdist.models.resnet32", "tfdist.models.resnet44", "tfdist.models.resnet56", "tfdist.models.resnet110"),
    *("tfdist.models.resnet18", "tfdist.models.resnet34", "tfdist.models.resnet101", "tfdist.models.resnet152"),
    *("tfdist.models.vit_ti16", "tfdist.models.vit_b16"),
}


def public_names():
    return [f"{package}.{name}" for package in PACKAGES for name in importlib.import_module(package).__all__]


def example_of(name):
    """Returns the code of the `Example:` section of a public name's docstring, or None."""
    package, _, last = name.rpartition(".")
    text = inspect.cleandoc(getattr(importlib.import_module(package), last).__doc__ or "")
    found = re.search(r"^Example:\n +```python\n(.*?)^ +```$", text, re.MULTILINE | re.DOTALL)
    return found and textwrap.dedent(found[1])


def test_each_public_name_has_an_example():
    assert {name for name in public_names() if example_of(name) is None} == WITHOUT


@pytest.mark.parametrize("name", sorted(set(public_names()) - WITHOUT))
def test_the_example_runs(name, cpus, tmp_path, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    execute(example_of(name), tmp_path)
