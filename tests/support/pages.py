"""The pages that users read: README, CONTRIBUTING, CHANGELOG, docs/; their blocks, commands, links and headings."""

import contextlib
import dataclasses
import re
import types

from support.processes import REPOSITORY

_AT_THE_ROOT = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "EQUIVALENCE.md")
PAGES = [*(REPOSITORY / name for name in _AT_THE_ROOT), *sorted((REPOSITORY / "docs").rglob("*.md"))]
_FENCED = re.compile(
    r"(?:<!-- test: (?P<mark>[^>\n]+?)(?: -->|\n(?P<before>[^`]*?)^-->)\n)?"
    r"^```(?P<language>\w*)\n(?P<text>.*?)^```",
    re.MULTILINE | re.DOTALL,
)


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: the page's path, relative to the repository.
        mark: None, or what `<!-- test: … -->` above the block says: a name, and perhaps `; ` and what follows `python`.
        before: None, or the other lines of that comment: Python that an excerpt needs, and that a reader does not see.
        language: the word after the fence, or "".
        text: the lines between the fences.
    """

    page: str
    mark: str | None
    before: str | None
    language: str
    text: str

    def __str__(self):
        return f"{self.page} {self.mark}"

    @property
    def arguments(self):
        """What follows `python` to run the block, which lies in script.py."""
        _, _, arguments = self.mark.partition("; ")
        return arguments.split() or ["script.py"]


def name_of(page):
    """Returns a page's path relative to the repository."""
    return str(page.relative_to(REPOSITORY))


def blocks(page, language=None):
    """Returns the `Block`s of a page, in one language or in all."""
    parts = (match.group("mark", "before", "language", "text") for match in _FENCED.finditer(read(page)))
    found = (Block(name_of(page), *part) for part in parts)
    return [block for block in found if language in (None, block.language)]


def execute(text, folder):
    """Executes Python of a page or of a docstring as a module in this process, in a folder.

    It lies in a file, because AutoGraph reads the source of the functions that it converts.
    """
    path = folder / "example.py"
    path.write_text(text)
    with contextlib.chdir(folder):
        exec(compile(text, path, "exec"), types.ModuleType("example").__dict__)


def read(page):
    """Returns a page's text."""
    return page.read_text()


def prose(page):
    """Returns a page's text without its fenced blocks."""
    return _FENCED.sub("", read(page))


def commands(page):
    """Returns the command lines of a page's blocks, continued lines joined and comments left out."""
    lines = [line for block in blocks(page, "") for line in block.text.replace("\\\n", " ").splitlines()]
    return [line.split("  #")[0].removeprefix("$ ").strip() for line in lines]


def links(page):
    """Returns (path, anchor) of the links that stay within the repository; either may be ""."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [target.partition("#")[::2] for target in targets if not re.match(r"\w+:", target)]


def anchors(page):
    """Returns the anchors of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    plain = (re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower() for heading in headings)
    return {re.sub(r"\s+", "-", heading) for heading in plain}
