"""Fields of option classes: each says once what its flag, the help and the documentation say of it."""

import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from tfdist.process.nearest import did_you_mean

_T = TypeVar("_T")
_KEY = "tfdist"
_KINDS = (bool, int, float, str)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Option:
    """What a field says of itself besides its type and its default.

    Attributes:
        help: one or more sentences, for `--help` and for the docstring of the class.
        choices: the values that are allowed; empty where others are.
        words: words that may stand in place of a number or of a switch, such as "auto".
        flag: the name of the flag, if it is not that of the field.
        shown: the default as the help shows it, if it is not the default's own text.
        repeated: whether a flag for several values is given once for each; otherwise commas are between them.
        least: the smallest number that is allowed; None for no such bound.
        most: the largest one.
        above: a number below all that are allowed.
        below: a number above all that are allowed.
    """

    help: str
    choices: Sequence[str] = ()
    words: Sequence[str] = ()
    flag: str | None = None
    shown: str | None = None
    repeated: bool = False
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    @property
    def bounds(self) -> str:
        """A phrase that states which numbers are allowed, such as " from 1"; empty for all."""
        words = {"from": self.least, "above": self.above, "to": self.most, "below": self.below}
        return "".join(f" {word} {bound}" for word, bound in words.items() if bound is not None)

    def contains(self, number: float) -> bool:
        """Returns whether a number is within the bounds."""
        return (
            (self.least is None or number >= self.least)
            and (self.most is None or number <= self.most)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )


class Flag(NamedTuple):
    """A field from which a flag is made.

    Attributes:
        name: the flag's name.
        kind: the type of one value: bool, int, float or str.
        several: whether the field holds a tuple of such values.
        default: the field's default.
        option: its `Option`.
    """

    name: str
    kind: type
    several: bool
    default: Any
    option: Option


def option(
    default: _T,
    *,
    help: str,
    choices: Sequence[str] = (),
    words: Sequence[str] = (),
    flag: str | None = None,
    shown: str | None = None,
    repeated: bool = False,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> _T:
    """Makes a field of an option class that is also a flag; the arguments are described at `Option`."""
    about = Option(
        help=help,
        choices=choices,
        words=words,
        flag=flag,
        shown=shown,
        repeated=repeated,
        least=least,
        most=most,
        above=above,
        below=below,
    )
    return dataclasses.field(default=default, metadata={_KEY: about})


def option_of(field: "dataclasses.Field[Any]") -> Option | None:
    """Returns the `Option` of a field; None if the field has no flag."""
    return field.metadata.get(_KEY)


def name_of(field: "dataclasses.Field[Any]") -> str:
    """Returns the name of a field's flag, which is also the name in messages and of the argument of `fit`."""
    about = option_of(field)
    return (about and about.flag) or field.name


def flags_of(kind: type) -> Iterator[Flag]:
    """Yields a `Flag` for each field of an option class, and of the option classes within it, that has one."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint, about = hints[field.name], option_of(field)
        if dataclasses.is_dataclass(hint):
            yield from flags_of(typing.cast(type, hint))
        elif about:
            yield Flag(name_of(field), *_read_type(hint), field.default, about)


def _read_type(hint: Any) -> tuple[type, bool]:
    """Returns the type of one value, and whether there may be several; None and functions are left out."""
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True
    members = (hint, *typing.get_args(hint))
    return next(kind for kind in _KINDS if kind in members), False


def flatten(options: Any) -> dict[str, Any]:
    """Returns the values of all fields by the names of their flags, also of the option classes within."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        flat |= flatten(value) if dataclasses.is_dataclass(value) else {name_of(field): value}
    return flat


def replace_flat(options: _T, changes: Mapping[str, Any]) -> _T:
    """Returns the options with some values changed.

    Args:
        options: an instance of an option class.
        changes: the name of a field, or of a flag of the option classes within → the new value.

    Raises:
        TypeError: there is no such name.
    """
    own = dict(changes)
    for field in dataclasses.fields(typing.cast(Any, options)):
        inner = getattr(options, field.name)
        if not dataclasses.is_dataclass(inner):
            continue
        names = {name_of(part): part.name for part in dataclasses.fields(inner)}
        # Only a flag may have the name of the field that holds its class, and another value.
        if field.name in own and (dataclasses.is_dataclass(own[field.name]) or field.name not in names):
            inner = own.pop(field.name)
        if dataclasses.is_dataclass(inner):
            given = {names[name]: own.pop(name) for name in names.keys() & own.keys()}
            inner = dataclasses.replace(typing.cast(Any, inner), **given)
        own[field.name] = inner
    known = {field.name for field in dataclasses.fields(typing.cast(Any, options))} | flatten(options).keys()
    if unknown := [name for name in own if name not in known]:
        hint = did_you_mean(unknown[0], sorted(known))
        raise TypeError(f"{type(options).__name__} has no option {unknown[0]!r}.{hint}")
    return typing.cast(_T, dataclasses.replace(typing.cast(Any, options), **own))


def documented(kind: type[_T]) -> type[_T]:
    """Adds the help and the choices of each field to the docstring of an option class, for `help(kind)`."""
    text = inspect.cleandoc(kind.__doc__ or "")
    heading = [] if "\nAttributes:\n" in text else ["", "Attributes:"]
    about = [(field.name, option_of(field)) for field in dataclasses.fields(typing.cast(Any, kind))]
    fill = textwrap.TextWrapper(100, initial_indent=" " * 4, subsequent_indent=" " * 8).fill
    choices = {name: f" One of {', '.join(map(repr, said.choices))}." for name, said in about if said and said.choices}
    lines = [fill(f"{name}: {said.help}{choices.get(name, '')}") for name, said in about if said]
    kind.__doc__ = "\n".join([text, *heading, *lines])
    return kind
