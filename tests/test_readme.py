"""The README says what is there, and what it shows runs."""

import pathlib
import re

import pytest
from support.processes import REPOSITORY, run_python

README = (REPOSITORY / "README.md").read_text()


def blocks(language):
    return re.findall(rf"<!-- test: ([\w ]+) -->\n```{language}\n(.*?)```", README, re.DOTALL)


def test_the_tree_is_the_one_on_disk():
    tree = re.search(r"## The tree\n\n```\n(.*?)```", README, re.DOTALL)[1]
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


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), blocks("python"), ids=[name for name, _ in blocks("python")])
def test_the_python_of_the_readme_runs(name, code, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(code)
    ended = run_python("-W", "ignore", script, folder=tmp_path)
    assert ended.code == 0, ended.err[-3000:]
    assert "strategy mirrored (asked for; no GPU, so 2 logical CPU devices): 2 replicas." in ended.err


def test_the_two_examples_are_there():
    assert [name for name, _ in blocks("python")] == ["fit", "by hand"]


def test_the_commands_name_flags_that_exist():
    from tfdist.options.command_line import make_flags
    from tfdist.train.flags import OPTIONS

    known = {*make_flags(*OPTIONS), "help"}
    commands = re.findall(r"-m tfdist\.train ([^\n`#]*)", README)
    assert len(commands) > 5
    for command in commands:
        for flag in re.findall(r"--(\w+)", command):
            assert flag in known, command


def test_the_make_targets_exist():
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in re.findall(r"`make ([\w-]+)`", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_relative_links_and_files_exist():
    for name in re.findall(r"`((?:tests|recipes|colab|tfdist)/[\w./]+)`", README):
        assert (REPOSITORY / name).exists(), name
