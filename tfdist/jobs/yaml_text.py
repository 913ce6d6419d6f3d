"""Plain data as YAML, so that a job text needs no package."""

import re
from collections.abc import Iterator
from typing import Any

_PLAIN = re.compile(r"[A-Za-z/][\w./@-]*(:[\w./@-]+)*", re.ASCII)
# YAML 1.1, which Kubernetes reads, takes these words for switches.
_WORDS = {"true", "false", "yes", "no", "on", "off", "y", "n", "null"}


def yaml_text(value: Any) -> str:
    """Returns YAML of dicts, lists, strings, whole numbers and switches.

    Args:
        value: a dict or a list that is not empty.
    """
    return "\n".join(_lines(value)) + "\n"


def _lines(value: Any) -> Iterator[str]:
    """Yields the lines of a dict or a list, without indentation."""
    pairs = value.items() if isinstance(value, dict) else ((None, item) for item in value)
    for key, item in pairs:
        head = "-" if key is None else f"{_scalar(key)}:"
        if item and isinstance(item, dict | list):
            inner = list(_lines(item))
            if key is None:
                yield f"- {inner.pop(0)}"
            else:
                yield head
            yield from (f"  {line}" if line else "" for line in inner)
        elif isinstance(item, str) and _is_block(item):
            yield f"{head} |-"
            yield from (f"  {line}" if line else "" for line in item.split("\n"))
        else:
            yield f"{head} {_scalar(item)}"


def _is_block(text: str) -> bool:
    """Returns whether a text of several lines can stand as it is."""
    lines = text.split("\n")
    whole = all(line.isascii() and line.isprintable() for line in lines)
    return len(lines) > 1 and whole and lines[0] != "" and lines[-1] != "" and lines[0][0] != " "


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        return "{}" if isinstance(value, dict) else "[]"
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return '"' + "".join(map(_escaped, value)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if " " <= character <= "~" else f"\\U{ord(character):08x}"
