"""The last result of a matrix, as a table under docs/evidence: when, of which commit, by which command, row by row."""

import datetime
import subprocess

from support.processes import REPOSITORY

FOLDER = REPOSITORY / "docs" / "evidence"


def write(name, title, command, columns, rows):
    """Writes docs/evidence/<name>.md.

    Args:
        name: the file's name, without its suffix.
        title: the heading, and perhaps a paragraph below it.
        command: what a reader types to repeat it.
        columns: names of the columns; the first one names a row.
        rows: lists of cells.
    """
    today = datetime.datetime.now(datetime.UTC).date()
    lines = [
        f"# {title}",
        "",
        f"{today}, commit {_commit()}, `{command}`.",
        "",
        _line(columns),
        _line("---" for _ in columns),
        *map(_line, rows),
    ]
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.md").write_text("\n".join(lines) + "\n")


def _line(cells):
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _commit():
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.strip()
