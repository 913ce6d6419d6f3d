"""The command line of `tfdist.launch` → a `LaunchConfig`."""

from tfdist.launch.config import LaunchConfig
from tfdist.options.command_line import read_given
from tfdist.process.errors import UsageError

USAGE = """Starts the workers of a run, on this machine or over ssh, and watches, stops and restarts them together.

  python -m tfdist.launch --workers=2 -- -m tfdist.train --epochs=5
  python -m tfdist.launch --workers=4 --max_restarts=3 --min_workers=2 -- script.py --flag=value
  python -m tfdist.launch --hosts=a,b --processes_per_host=2 -- -m tfdist.train --run_dir=/shared/runs/1
  python -m tfdist.launch --hosts=a,b --tf_config_only

After ` -- ` stands what would follow `python`: any script, or -m and a module. Each worker finds its TF_CONFIG in the
environment. The exit code is that of the worker that failed first (128 + n for signal n), 124 for a stuck worker, 75
and 130 where a signal asked the launcher to stop and the workers have saved, 2 for a mistake.

Flags:
"""


def read_config(arguments):
    """Reads a command line.

    Args:
        arguments: the words after `python -m tfdist.launch`.

    Returns:
        A `LaunchConfig`.

    Raises:
        SystemExit: help was asked for, and printed.
        ValueError: a flag or a value is wrong; the message says which and what to do.
    """
    arguments = list(arguments)
    if "--" not in arguments and (place := _place_of_command(arguments)) is not None:
        raise UsageError(f"{arguments[place]!r} is not a flag. {_advise(arguments[place:])}")
    split = arguments.index("--") if "--" in arguments else len(arguments)
    own, command = arguments[:split], arguments[split + 1 :]
    given = read_given((LaunchConfig,), own, command="tfdist.launch", usage=USAGE, cure=_advise)
    return LaunchConfig(command=tuple(command), **given)


def _place_of_command(arguments):
    """Returns the place of the first word that can only belong to what is to run; None without one."""
    for place, word in enumerate(arguments):
        if word == "-m" or (word.endswith(".py") and not word.startswith("-")):
            return place
    return None


def _advise(rest):
    return f"Put what is to run after ` -- `: … -- {' '.join(rest)}"
