"""Checks that the frozen option classes share; their messages name an option as its flag does."""

import dataclasses
from collections.abc import Container
from typing import Any

from tfdist.options.fields import name_of, option_of
from tfdist.process.errors import UsageError


def check_choices(options: Any, *, other_than: Container[str] = ()) -> None:
    """Checks that each field with choices has one of them.

    Args:
        options: an instance of an option class.
        other_than: names of fields that are not checked.

    Raises:
        ValueError: a field has another value; the message lists the choices.
    """
    for field in dataclasses.fields(options):
        about, value = option_of(field), getattr(options, field.name)
        if about and about.choices and field.name not in other_than and value not in about.choices:
            raise UsageError(f"{name_of(field)} is {value!r}. Use one of {', '.join(about.choices)}.")


def check_counts(options: Any, *names: str, optional: bool = False) -> None:
    """Checks that fields are whole numbers from 1, or None where they are optional.

    Raises:
        ValueError: a field has another value.
    """
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name in names and not (is_count(value) or (optional and value is None)):
            raise UsageError(f"{name_of(field)} is {value!r}. Use a whole number from 1.")


def is_whole(value: Any) -> bool:
    """Returns whether a value is a whole number; True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_count(value: Any) -> bool:
    """Returns whether a value is a whole number from 1."""
    return is_whole(value) and value >= 1


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
