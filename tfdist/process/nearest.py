"""Suggests a name that exists for one that does not."""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

from tfdist.process.errors import UsageError

_P = ParamSpec("_P")
_R = TypeVar("_R")
# Names of arguments that mean the same.
_SYNONYMS = (("batch_size", "global_batch"), ("run_dir", "checkpoint_dir", "log_dir", "output_dir"))


def nearest(word: Any, known: Iterable[str]) -> str | None:
    """Returns the known name that is most like a word, begins with it, or has its letters; None where none is."""
    plain = {_plain(name): name for name in reversed(list(known))}
    text = _plain(word)
    # Of three letters, two alike say little: "gpu" is not meant for "tpu".
    near = difflib.get_close_matches(text, plain, n=1, cutoff=0.6 if len(text) > 3 else 0.7)
    near = near or [name for name in plain if len(text) > 2 and (name.startswith(text) or sorted(name) == sorted(text))]
    return plain[near[0]] if near else None


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """Returns " Did you mean 'x'?" for the known name that is most like a word; "" where none is."""
    name = nearest(word, known)
    return f" Did you mean {name!r}?" if name is not None and name != word else ""


def with_known_arguments(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Makes a public function refuse an argument that it does not have, with the name that was perhaps meant."""
    known = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        for name in kwargs:
            if name not in known:
                called = f"tfdist.{function.__name__}"
                meant = next((synonym for synonym in _synonyms(name) if synonym in known), name)
                hint = did_you_mean(meant, known) or (f" Use {meant}." if meant != name else f" See help({called}).")
                raise UsageError(f"{called}: there is no argument {name!r}.{hint}")
        return function(*args, **kwargs)

    return checked


def missing_attribute(module: str, name: str, public: Iterable[str]) -> AttributeError:
    """Returns the error for a name that a package does not have.

    Args:
        module: the package's name.
        name: what was looked for.
        public: the names that it has.
    """
    hint = did_you_mean(name, public)
    text = f"module {module!r} has no attribute {name!r}.{hint} Public names: {', '.join(public)}."
    # Python would add a suggestion of its own to an error without an object.
    return AttributeError(text, name=name, obj=None)


def _synonyms(name: str) -> tuple[str, ...]:
    return next((names for names in _SYNONYMS if name in names), ())


def _plain(word: Any) -> str:
    return str(word).lower().replace("-", "_")
