"""Suggests a name that exists for one that does not."""

import difflib
from collections.abc import Iterable
from typing import Any


def nearest(word: Any, known: Iterable[str]) -> str | None:
    """Returns the known name that is most like a word, or that begins with it; None where none is."""
    plain = {_plain(name): name for name in reversed(list(known))}
    text = _plain(word)
    # Of three letters, two alike say little: "gpu" is not meant for "tpu".
    near = difflib.get_close_matches(text, plain, n=1, cutoff=0.6 if len(text) > 3 else 0.7)
    near = near or [name for name in plain if len(text) > 2 and name.startswith(text)]
    return plain[near[0]] if near else None


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """Returns " Did you mean 'x'?" for the known name that is most like a word; "" where none is."""
    name = nearest(word, known)
    return f" Did you mean {name!r}?" if name is not None and name != word else ""


def _plain(word: Any) -> str:
    return str(word).lower().replace("-", "_")
