"""Command lines: fields of option classes → absl flags → the values that were given, or one message for a mistake."""

from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from tfdist.options.fields import Flag, flags_of
from tfdist.options.neighbours import advise, suggest_value
from tfdist.process.errors import UsageError

_HELP = ("--help", "-h", "-help", "--helpfull")
_SWITCHES = {"true": True, "false": False}
# (type of one value, whether there may be several) → what a value looks like.
_HINTS = {
    (bool, False): "true, false",
    (int, False): "a whole number",
    (float, False): "a number",
    (str, False): "",
    (int, True): "whole numbers with commas between",
    (str, True): "words with commas between",
}


def make_flags(*kinds: type) -> flags.FlagValues:
    """Makes the flags of option classes. One that is not given is None: only given flags change a recipe."""
    values = flags.FlagValues()  # type: ignore[no-untyped-call]
    for kind in kinds:
        for flag in flags_of(kind):
            values[flag.name] = _make_flag(flag)
    return values


def read_given(
    kinds: Sequence[type],
    arguments: Sequence[str],
    *,
    command: str,
    usage: str,
    first: str | None = None,
    cure: Callable[[Sequence[str]], str] | None = None,
) -> dict[str, Any]:
    """Reads the flags of a command.

    Args:
        kinds: the option classes whose fields are the flags.
        arguments: what follows `python -m <command>`.
        command: its name, such as "tfdist.train".
        usage: the text of the help before the flags.
        first: the name of a flag whose value may also stand alone, without the name, or all of its values if it has
            several; None for no such flag.
        cure: a function (words that are not flags) → what to do about them; None for the usual advice.

    Returns:
        name → value of each flag that is given.

    Raises:
        SystemExit: help was asked for, and printed.
        ValueError: a flag or a value is wrong; the message says which and what to do.
    """
    values = make_flags(*kinds)
    if any(argument in _HELP for argument in arguments):
        print(usage + values.get_help("  ", include_special_flags=False))
        raise SystemExit(0)
    values.set_gnu_getopt(first is not None)
    try:
        rest = values([command, *arguments])[1:]
    except flags.UnrecognizedFlagError as error:
        text = str(error)
        if hint := advise(error.flagname, command, list(values)):
            text = f"Unknown command line flag {error.flagname!r}.{hint}"
        stop = "" if text.endswith((".", "?", "…")) else "."
        raise UsageError(f"{text}{stop} See python -m {command} --help.") from None
    except (flags.Error, ValueError) as error:
        stop = "" if str(error).endswith((".", "?")) else "."
        raise UsageError(f"{error}{stop}{suggest_value(str(error))} See python -m {command} --help.") from None
    given = {name: _plain(values[name].value) for name in values if values[name].present}
    if rest and first and first not in given:
        several = any(flag.name == first and flag.several for kind in kinds for flag in flags_of(kind))
        given[first], rest = (tuple(rest), []) if several else (rest[0], rest[1:])
    if rest:
        advice = cure(rest) if cure else f"Write --name=value; see python -m {command} --help."
        raise UsageError(f"{rest[0]!r} is not a flag. {advice}")
    return given


class _Parser(flags.ArgumentParser[Any]):
    """Parses the text of a flag as its type says; "several" values have commas between."""

    def __init__(self, flag: Flag) -> None:
        self._flag = flag
        self._several = flag.several and not flag.option.repeated
        hint = _HINTS[flag.kind, self._several]
        self.syntactic_help = ", or ".join([hint, *flag.option.words])

    def parse(self, argument: str) -> Any:
        """Returns the value.

        Raises:
            ValueError: the text is no such value.
        """
        parts = [part.strip() for part in argument.split(",")] if self._several and argument else []
        try:
            return tuple(map(self._read, parts)) if self._several else self._read(argument)
        except (KeyError, ValueError):
            raise ValueError(f"value should be {self.syntactic_help}") from None

    def _read(self, text: str) -> Any:
        if text in self._flag.option.words:
            return text
        return _SWITCHES[text] if self._flag.kind is bool else self._flag.kind(text)


def _make_flag(flag: Flag) -> "flags.Flag[Any]":
    option, text = flag.option, _describe(flag)
    if option.choices:
        return flags.EnumFlag(flag.name, None, text, list(option.choices))
    if flag.kind is bool and not option.words:
        return flags.BooleanFlag(flag.name, None, text)
    kind = flags.MultiFlag if option.repeated else flags.Flag
    return kind(_Parser(flag), None, flag.name, None, text)


def _describe(flag: Flag) -> str:
    """Returns the help of a flag, with its default, which an empty list of values has in `shown` alone."""
    shown, stop = flag.option.shown, "" if flag.option.help.endswith(".") else "."
    if shown is None:
        shown = ",".join(map(_show, flag.default)) if flag.several else _show(flag.default)
    return f"{flag.option.help}{stop} Default: {shown}." if shown else flag.option.help


def _show(default: Any) -> str:
    if default is None or default == "":
        return "none"
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


def _plain(value: Any) -> Any:
    """Returns what a flag holds as the field holds it: of a repeated flag a tuple."""
    return tuple(value) if isinstance(value, list) else value
