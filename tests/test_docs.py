"""The pages say what is there, and what they show runs."""

import functools
import importlib
import importlib.util
import itertools
import re
import shlex

import pytest
from support.pages import PAGES, anchors, blocks, commands, execute, links, name_of, prose, read
from support.processes import REPOSITORY, run_python

import tfdist
from tfdist.__main__ import COMMANDS

DOCS = REPOSITORY / "docs"
BLOCKS = [block for page in PAGES if page.is_relative_to(DOCS) for block in blocks(page, "python") if block.mark]
SCRIPTS = [block for block in BLOCKS if block.before is None]
EXCERPTS = [block for block in BLOCKS if block.before is not None]
# Flags of other programs that the pages name.
OTHERS = {"editable", "numprocesses", "dist", "signal"}
# What ends the words of a command in a shell.
ENDS = {"|", "&", "&&", "||", ";", ">", "2>&1"}
# Files that the commands of the pages name, and that readers have or write.
RECIPE = "import tfdist\nrecipe = tfdist.RunConfig\n"
FILES_OF_READERS = {"mine.py": RECIPE, "my_recipe.py": RECIPE, "my_module.py": "", "old/bench.json": "{}"}

every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


@functools.cache
def flags(command):
    """Returns the flags of a command of tfdist, by its help."""
    ended = run_python("-m", f"tfdist.{command}", "--help", deadline_seconds=60)
    assert ended.code == 0, ended.err
    found = re.findall(r"--(\[no\])?(\w+)", ended.out)
    return {"help", *(name for _, name in found), *(f"no{name}" for no, name in found if no)}


def calls(line):
    """Yields (command, its arguments) for each command of tfdist in a line; the launcher's is followed by another."""
    # A folder at the beginning: a line of a tree, with what it is about.
    if not re.match(r"(?!\w+/ ).*-m tfdist\.\w+(\s|$)", line):
        return
    words = shlex.split(line, comments=True)
    for place, word in enumerate(words[1:], start=1):
        if words[place - 1] == "-m" and word.startswith("tfdist."):
            rest = itertools.takewhile(lambda word: word not in ENDS, words[place + 1 :])
            yield word.removeprefix("tfdist."), list(rest)


def read_arguments(command, arguments):
    """Reads a command's arguments as the command does, and runs nothing."""
    if command == "models":
        for name in arguments:
            tfdist.models.check_name(name)
        return
    homes = filter(importlib.util.find_spec, (f"tfdist.{command}.{name}" for name in ("flags", "config")))
    (read_config,) = (
        module.read_config for module in map(importlib.import_module, homes) if hasattr(module, "read_config")
    )
    read_config(arguments)


@pytest.fixture
def folder_of_readers(tmp_path, monkeypatch):
    """Makes the folder in which readers are: it has the recipes of the repository, and files of theirs."""
    (tmp_path / "recipes").symlink_to(REPOSITORY / "recipes")
    for name, text in FILES_OF_READERS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("block", SCRIPTS, ids=str)
def test_the_scripts_of_the_pages_run(block, tmp_path):
    (tmp_path / "script.py").write_text(block.text)
    ended = run_python("-W", "ignore", *block.arguments, folder=tmp_path)
    assert ended.code == 0, ended.err[-3000:]
    assert ("tfdist: strategy " in ended.err) == ("choose_strategy" in block.text or block.arguments != ["script.py"])


@pytest.mark.parametrize("block", EXCERPTS, ids=str)
def test_the_excerpts_of_the_pages_run_after_the_lines_in_their_comment(block, cpus, tmp_path, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    execute(block.before + block.text, tmp_path)


@every_page
def test_all_python_is_run(page):
    assert [block.text for block in blocks(page, "python") if not block.mark] == []


@every_page
def test_commands_are_understood(page, folder_of_readers):
    for line in commands(page):
        for command, arguments in calls(line):
            assert command in COMMANDS, line
            read_arguments(command, arguments)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("A='{}' python -m tfdist.train --epoch=5  # not so long", "epoch"),
        ("python -m tfdist.launch --workers=2 -- -m tfdist.train --epochs=0 &", "epochs is 0"),
        ("srun .venv/bin/python -m tfdist.bench --replicas=none", "replicas"),
    ],
)
def test_a_wrong_command_would_be_found(line, message):
    with pytest.raises(tfdist.TfdistError, match=message):
        for command, arguments in calls(line):
            read_arguments(command, arguments)


def test_the_pages_have_commands_that_are_read():
    found = [command for page in PAGES for line in commands(page) for command, _ in calls(line)]
    assert set(found) >= {"train", "launch", "doctor", "verify", "bench"}


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
    tables = read(DOCS / "guides" / "troubleshooting.md").split("## Of TensorFlow and Keras")[0]
    first_cells = re.findall(r"^\| (`[^|]*`) \|", tables, re.MULTILINE)
    messages = [message for cell in first_cells for message in cell.split("`")[1::2]]
    assert len(messages) > 40
    parts = [part.strip() for message in messages for part in message.split("…")]
    assert [part for part in parts if part not in code] == []
