"""A finding as a line: green, yellow or red, with the remedy."""

import dataclasses
import json

OK, WARN, FAIL = "ok", "warn", "FAIL"
_COLOURS = {OK: "\033[32m", WARN: "\033[33m", FAIL: "\033[1;31m"}
_INDENT = " " * 20


@dataclasses.dataclass(frozen=True)
class Line:
    """One finding.

    Attributes:
        level: "ok", "warn" or "FAIL".
        name: the subject of the check, in one or two words.
        text: the finding.
        cure: what to do; empty if the line is green.
    """

    level: str
    name: str
    text: str
    cure: str = ""


def fail_with(name, error):
    """Returns the red line for an error: its message says what is wrong, and then what to do."""
    text, _, cure = str(error).removeprefix("rendezvous: ").partition(". ")
    return Line(FAIL, name, text.rstrip("."), cure)


def render(line, *, colours=False):
    """Returns a line as text, with the remedy below it."""
    level = f"{line.level:<4}"
    if colours:
        level = f"{_COLOURS[line.level]}{level}\033[0m"
    cure = f"\n{_INDENT}-> {line.cure}" if line.cure else ""
    return f"{level}  {line.name:<12}  {line.text}{cure}"


def to_json(lines):
    """Returns all lines as one JSON object."""
    found = [dataclasses.asdict(line) for line in lines]
    return json.dumps({"ok": is_well(lines), "lines": found}, indent=2)


def is_well(lines):
    """Returns whether no line is red."""
    return all(line.level != FAIL for line in lines)
