"""The common part of the command lines: absl flags → the values that were given, or one message for a mistake."""

from absl import flags

from tfdist.process.errors import UsageError

_HELP = ("--help", "-h", "-help", "--helpfull")


def read_given(values, arguments, *, command, usage, module, cure=None):
    """Reads the flags of a command.

    Args:
        values: `absl.flags.FlagValues`, each flag None by default.
        arguments: what follows `python -m <command>`.
        command: its name, such as "tfdist.train".
        usage: the text of the help before the flags.
        module: the name of the module that defined the flags.
        cure: a function (words that are not flags) → what to do about them; None for the usual advice.

    Returns:
        name → value of each flag that is given.

    Raises:
        SystemExit: help was asked for, and printed.
        ValueError: a flag or a value is wrong; the message says which and what to do.
    """
    if any(argument in _HELP for argument in arguments):
        print(usage + values.module_help(module).split("\n", 2)[2])
        raise SystemExit(0)
    try:
        rest = values([command, *arguments])[1:]
    except flags.Error as error:
        raise UsageError(f"{error} See python -m {command} --help.") from None
    if rest:
        advice = cure(rest) if cure else f"Write --name=value; see python -m {command} --help."
        raise UsageError(f"{rest[0]!r} is not a flag. {advice}")
    return {name: values[name].value for name in values if values[name].present}
