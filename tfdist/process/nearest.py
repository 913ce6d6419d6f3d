"""Suggests a name that exists for one that does not."""

import difflib
from collections.abc import Iterable
from typing import Any


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """Returns " Did you mean 'x'?" for the known name that is most like a word; "" where none is."""
    names = list(known)
    plain = {name.lower().replace("-", "_"): name for name in reversed(names)}
    text = str(word).lower().replace("-", "_")
    near = difflib.get_close_matches(text, plain, n=1)
    # What somebody begins to write, such as "mirror".
    near = near or [name for name in plain if len(text) > 2 and name.startswith(text)]
    return f" Did you mean {plain[near[0]]!r}?" if near and plain[near[0]] != word else ""
