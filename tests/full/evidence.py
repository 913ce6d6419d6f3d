"""The last result of a matrix, as a table under docs/evidence: when, of which commit, by which command, row by row."""

import datetime
import re
import subprocess

from support.processes import REPOSITORY

FOLDER = REPOSITORY / "docs" / "evidence"


def write(name, title, command, columns, rows, *, earlier=0):
    """Writes docs/evidence/<name>.md.

    Args:
        name: the file's name, without its suffix.
        title: the heading, and perhaps a paragraph below it.
        command: what a reader types to repeat it.
        columns: names of the columns; the first one names a row.
        rows: lists of cells.
        earlier: how many of the rows were measured before, at an earlier commit.
    """
    before = f"; {earlier} of the {len(rows)} rows were measured at earlier commits" if earlier else ""
    today = datetime.datetime.now(datetime.UTC).date()
    lines = [
        f"# {title}",
        "",
        f"{today}, commit {_commit()}, `{command}`{before}.",
        "",
        _line(columns),
        _line("---" for _ in columns),
        *map(_line, rows),
    ]
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.md").write_text("\n".join(lines) + "\n")


def measure(rows, run, arguments, *, name, title, command, columns):
    """Runs rows one by one, prints their cells, and writes the page of all.

    Args:
        rows: what is run; `str` gives a row's name.
        run: a function of a row → its cells; one of them says whether it is "as it should be".
        arguments: of the command line: parts of names, and "--missing". With parts, only rows with one of them are run,
            and nothing is written. With "--missing", only what the page lacks or has as wrong is run, and the page is
            written after each row.
        name, title, command, columns: as for `write`.

    Returns:
        The exit code: 1 where a row is not as it should be.
    """
    missing, parts = "--missing" in arguments, [each for each in arguments if each != "--missing"]
    path, rows, place = FOLDER / f"{name}.md", list(rows), columns.index("as it should be")
    page = read_rows(path) if missing and path.exists() else {}
    kept = {row: list(cells.values()) for row, cells in page.items() if cells["as it should be"] == "yes"}
    kept = {row: kept[row] for row in map(str, rows) if row in kept}
    results = dict(kept)

    def write_page():
        found = [results[each] for each in map(str, rows) if each in results]
        write(name, title, command, columns, found, earlier=len(kept))

    for row in rows:
        if str(row) in results or (parts and not any(part in str(row) for part in parts)):
            continue
        results[str(row)] = run(row)
        print(*results[str(row)], sep=" · ", flush=True)
        if missing:
            write_page()
    if not parts:
        write_page()
    wrong = [cells for cells in results.values() if cells[place] != "yes"]
    print(f"{len(results)} rows, {len(wrong)} not as they should be", *(cells[0] for cells in wrong), sep="\n")
    return 1 if wrong else 0


def read_rows(path):
    """Returns the rows of the last table of a page, as `write` has them: a row's name → {column: cell}.

    Raises:
        ValueError: a row comes twice.
    """
    table = path.read_text().rstrip().rpartition("\n\n")[2]
    columns, _, *lines = map(_cells, table.splitlines())
    rows = {}
    for cells in lines:
        if cells[0] in rows:
            raise ValueError(f"{path.name} has the row {cells[0]!r} twice. Leave one of the two out of the matrix.")
        rows[cells[0]] = dict(zip(columns, cells, strict=True))
    return rows


def _line(cells):
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _cells(line):
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def _commit():
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.strip()
