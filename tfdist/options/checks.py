"""Checks that the frozen option classes share; their messages name an option as its flag does."""

import collections.abc
import dataclasses
import functools
import inspect
import math
import operator
import os
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from numbers import Real
from typing import Any

from tfdist.options.fields import Option, name_of, option_of
from tfdist.process.errors import UsageError
from tfdist.process.nearest import did_you_mean

# Where a field has neither choices nor bounds.
_ANY = Option(help="")


def check_fields(options: Any, *, also: Mapping[str, str] | None = None) -> None:
    """Checks each field of an option class against its type and its `Option`, for the shell and for Python alike.

    NumPy's numbers become Python's, which a run's files can hold. True and False are no numbers.

    Args:
        options: an instance of an option class.
        also: the name of a field → what its message says may be used, in place of what its type says.

    Raises:
        ValueError: a field has another value; the message names it, its value and what to use.
    """
    for field in dataclasses.fields(options):
        about, value = option_of(field) or _ANY, getattr(options, field.name)
        members = _members(typing.cast(Any, type(options)))[field.name]
        try:
            checked = _read(value, members, about)
        except (TypeError, ValueError):
            use = (also or {}).get(field.name) or _describe(members, about)
            hint = did_you_mean(value, (*about.choices, *about.words)) if isinstance(value, str) else ""
            raise UsageError(f"{name_of(field)} is {value!r}. Use {use}.{hint}") from None
        if checked is not value:
            object.__setattr__(options, field.name, checked)


@functools.cache
def _members(kind: Hashable) -> dict[str, tuple[Any, ...]]:
    """Returns for each field of a class the types among which its value may be."""
    options = typing.cast(Any, kind)
    hints = typing.get_type_hints(options)
    return {field.name: _alternatives(hints[field.name]) for field in dataclasses.fields(options)}


def _alternatives(hint: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if is_union else (hint,)


def _read(value: Any, members: tuple[Any, ...], about: Option) -> Any:
    """Returns a value as one of the types holds it.

    Raises:
        TypeError, ValueError: it is none of them, or out of bounds.
    """
    if isinstance(value, str) and (value in about.words or value in about.choices):
        return value
    for member in members:
        kind = typing.get_origin(member) or member
        if kind is str and (about.choices or about.words):
            continue
        if _is_of(value, kind):
            return _PLAIN.get(kind, lambda value, member, about: value)(value, member, about)
    raise TypeError(value)


def _is_of(value: Any, kind: Any) -> bool:
    if kind is Any:
        return True
    if kind is collections.abc.Callable:
        return callable(value)
    test = _TESTS.get(kind)
    return test(value) if test else isinstance(value, kind)


def _bounded(value: Any, about: Option) -> Any:
    if not about.contains(value):
        raise ValueError(value)
    return value


def _several(value: Any, member: Any, about: Option) -> tuple[Any, ...]:
    (kind, *_) = typing.get_args(member)
    return tuple(_read(item, _alternatives(kind), about) for item in value)


def _describe(members: tuple[Any, ...], about: Option) -> str:
    """Returns what may be used, for a message."""
    if about.choices:
        return f"one of {', '.join(about.choices)}"
    found = [_NAMES.get(typing.get_origin(member) or member, "") for member in members]
    if about.words:
        found = [text for text in found if text != _NAMES[str]]
    texts = [f"{text}{about.bounds}" if "number" in text else text for text in found if text]
    return ", or ".join([*dict.fromkeys(texts), *map(repr, about.words)])


def is_switch(value: Any) -> bool:
    """Returns whether a value is True or False, also one of NumPy's."""
    return isinstance(value, bool) or (type(value).__name__ in ("bool", "bool_") and hasattr(value, "dtype"))


def is_whole(value: Any) -> bool:
    """Returns whether a value is a whole number, also one of NumPy's or TensorFlow's; True and False are not."""
    if is_switch(value) or isinstance(value, str):
        return False
    try:
        operator.index(value)
    except Exception:
        # A symbolic tensor raises an error of its own.
        return False
    return True


def is_count(value: Any) -> bool:
    """Returns whether a value is a whole number from 1."""
    return is_whole(value) and operator.index(value) >= 1


def is_number(value: Any) -> bool:
    """Returns whether a value is a finite real number, also one of NumPy's; True and False are not."""
    return isinstance(value, Real) and not is_switch(value) and math.isfinite(value)


def check_folder(name: str, folder: Any) -> None:
    """Checks that a folder can be one of this machine's file systems.

    Raises:
        ValueError: the folder is "", which an unset shell variable leaves, and which is no request for a default; or
            an address such as s3://bucket.
    """
    if folder == "":
        raise UsageError(f"{name} is empty. Give a folder, or leave it out.")
    if "://" in str(folder):
        raise UsageError(f"{name} is {folder}. Only folders of mounted file systems can be used: mount it, or copy it.")


def check_takes_nothing(name: str, function: Callable[..., Any] | None, use: str) -> None:
    """Checks that a function can be called without arguments; the message ends with what may be used.

    Raises:
        ValueError: it needs arguments, such as a transform in place of a function that makes one.
    """
    try:
        needed = inspect.signature(function) if function else None
        if needed:
            needed.bind()
    except TypeError:
        raise UsageError(f"{name} is a function of {needed}. Use {use}.") from None
    except ValueError:
        # Some functions of C have no signature.
        return


# Type → whether a value is of it, where `isinstance` does not say so.
_TESTS: dict[Any, Any] = {
    bool: is_switch,
    int: is_whole,
    float: is_number,
    tuple: lambda value: isinstance(value, list | tuple),
    os.PathLike: lambda value: isinstance(value, os.PathLike),
}
# Type → the function (value, type, Option) that returns the value as a field holds it.
_PLAIN: dict[Any, Any] = {
    bool: lambda value, member, about: bool(value),
    int: lambda value, member, about: _bounded(operator.index(value), about),
    float: lambda value, member, about: _bounded(value if isinstance(value, int) else float(value), about),
    tuple: _several,
}
# Type → what a message calls it.
_NAMES: dict[Any, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a name",
    tuple: "a tuple",
    os.PathLike: "a path",
    collections.abc.Callable: "a function",
    collections.abc.Mapping: "a dict",
    collections.abc.Sequence: "a list",
}
