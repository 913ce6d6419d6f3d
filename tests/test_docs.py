"""The pages say what is there, and what they show runs."""

import ast
import functools
import importlib
import re

import pytest
from support.pages import PAGES, anchors, blocks, commands, links, name_of, prose, read
from support.processes import REPOSITORY, run_python

import tfdist
from tfdist.__main__ import COMMANDS

DOCS = REPOSITORY / "docs"
SCRIPTS = [block for page in PAGES if page.is_relative_to(DOCS) for block in blocks(page, "python") if block.mark]
# Flags of other programs that the pages name.
OTHERS = {"editable", "numprocesses", "dist", "signal"}

every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


@functools.cache
def flags(command):
    """Returns the flags of a command of tfdist, by its help."""
    ended = run_python("-m", f"tfdist.{command}", "--help", deadline_seconds=60)
    assert ended.code == 0, ended.err
    found = re.findall(r"--(\[no\])?(\w+)", ended.out)
    return {"help", *(name for _, name in found), *(f"no{name}" for no, name in found if no)}


def uses(line):
    """Yields (command, its arguments) for each command of tfdist in a line; the launcher's is followed by another."""
    parts = re.split(r"(?:python -m tfdist\.|-m tfdist\.|\btfdist )(\w+)", line)
    for command, rest in zip(parts[1::2], parts[2::2], strict=True):
        if command in COMMANDS:
            yield command, rest.split(" -- ")[0]


@pytest.mark.slow
@pytest.mark.parametrize("block", SCRIPTS, ids=str)
def test_the_scripts_of_the_pages_run(block, tmp_path):
    (tmp_path / "script.py").write_text(block.text)
    ended = run_python("-W", "ignore", *block.arguments, folder=tmp_path)
    assert ended.code == 0, ended.err[-3000:]
    assert ("tfdist: strategy " in ended.err) == ("choose_strategy" in block.text or block.arguments != ["script.py"])


@every_page
def test_python_is_a_script_that_is_run_or_an_excerpt(page):
    for block in blocks(page, "python"):
        imports = any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.parse(block.text).body)
        assert imports == (block.mark is not None), block.text


@every_page
def test_commands_name_flags_that_exist(page):
    for line in commands(page):
        for command, arguments in uses(line):
            unknown = set(re.findall(r"--(\w+)", arguments)) - flags(command)
            assert not unknown, line


@every_page
def test_flags_in_the_text_exist(page):
    known = OTHERS.union(*map(flags, COMMANDS))
    if name_of(page) != "EQUIVALENCE.md":
        named = re.findall(r"`--(\w+)", prose(page))
        # Those of benchmarks/ stand with their command.
        elsewhere = "".join(re.findall(r"`[^`]*benchmarks[^`]*`", prose(page)))
        assert {name for name in named if f"--{name}" not in elsewhere} - known == set()


@every_page
def test_make_targets_exist(page):
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = re.findall(r"`make ([\w-]+)", prose(page))
    targets += [line.split()[1] for line in commands(page) if re.match(r"make \w", line)]
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@every_page
def test_links_lead_to_pages_and_headings(page):
    for path, anchor in links(page):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


@every_page
def test_files_that_are_named_exist(page):
    # Decisions and the changelog also name what was there once.
    if page.is_relative_to(DOCS / "decisions") or page.name == "CHANGELOG.md":
        return
    for name in re.findall(r"`((?:tests|recipes|colab|tfdist|benchmarks)/[\w./]+)`", read(page)):
        assert (REPOSITORY / name).exists() or "/room/" in name, name


def test_the_reference_has_every_public_name():
    shown = set()
    for page in (DOCS / "reference").glob("*.md"):
        shown |= set(re.findall(r"^::: (\S+)$", read(page), re.MULTILINE))
    packages = {name for name in tfdist.__all__ if (REPOSITORY / "tfdist" / name).is_dir()}
    public = {f"tfdist.{name}" for name in tfdist.__all__ if name not in packages}
    for package in packages:
        public |= {f"tfdist.{package}.{name}" for name in importlib.import_module(f"tfdist.{package}").__all__}
    assert public - shown == set()


def test_the_messages_that_are_explained_are_messages_of_tfdist():
    sources = (path.read_text() for path in (REPOSITORY / "tfdist").rglob("*.py"))
    code = " ".join(re.sub(r'"\s*\n\s*f?"', "", source) for source in sources)
    table = read(DOCS / "guides" / "failures.md").split("## Messages")[1]
    messages = [
        message for row in re.findall(r"^\| (`.*`) \|", table, re.MULTILINE) for message in row.split("`")[1::2]
    ]
    assert len(messages) > 10
    parts = [part.strip() for message in messages for part in message.split("…")]
    assert [part for part in parts if part not in code] == []
