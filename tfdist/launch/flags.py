"""The command line of `tfdist.launch` → a `LaunchConfig`."""

from absl import flags

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


def make_flags():
    """Makes the flags of `tfdist.launch`, each None where it is not given."""
    values = flags.FlagValues()

    def add(define, name, text):
        define(name, None, text, flag_values=values)

    add(flags.DEFINE_integer, "workers", "Processes on this machine, on free ports of 127.0.0.1.")
    add(flags.DEFINE_list, "hosts", "Hosts to start on over ssh, such as a,b or user@a,user@b.")
    add(flags.DEFINE_integer, "port", "Port of the first process on each of --hosts; the next count up (12345).")
    add(flags.DEFINE_integer, "processes_per_host", "Processes on each of --hosts; they divide its GPUs (1).")
    add(flags.DEFINE_bool, "divide_cores", "Run each worker on its share of a host's cores, without GPUs (true).")
    add(flags.DEFINE_integer, "max_restarts", "Restarts of all workers after failures (0).")
    add(flags.DEFINE_integer, "min_workers", "Fewest workers to continue with when a host or slot stays away (all).")
    add(
        *(flags.DEFINE_float, "backoff_seconds"),
        "Wait before a restart; doubles with each failure in a row, none after a run of five minutes (5).",
    )
    add(flags.DEFINE_float, "grace", "Seconds between a signal that is passed on and SIGKILL (30).")
    add(
        flags.DEFINE_float,
        "hang_seconds",
        "Longest time without a heartbeat, for workers that send them; 0 for no limit (600).",
    )
    add(flags.DEFINE_float, "first_step_seconds", "Longest time without a heartbeat before the first step (1800).")
    add(flags.DEFINE_string, "chaos", "Faults to inject: kill:worker=1,step=50; lose:… keeps the slot away.")
    add(flags.DEFINE_string, "log_dir", "Folder of the logs (<run_dir>/logs of the command, else runs/launch-<n>).")
    add(flags.DEFINE_string, "tee", "Workers whose lines to show: all, chief, none, or ranks such as 0,2 (chief).")
    add(flags.DEFINE_bool, "quiet", "Show only why a run failed.")
    add(flags.DEFINE_string, "python", "The interpreter of the workers (this one).")
    add(flags.DEFINE_multi_string, "env", "NAME=VALUE for the workers; may be repeated.")
    add(flags.DEFINE_bool, "dry_run", "Print the commands, and start nothing.")
    add(flags.DEFINE_bool, "tf_config_only", "Print each worker's TF_CONFIG, and start nothing.")
    return values


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
    if "-m" in arguments and "--" not in arguments:
        raise UsageError(f"'-m' is not a flag. {_advise(arguments[arguments.index('-m') :])}")
    split = arguments.index("--") if "--" in arguments else len(arguments)
    own, command = arguments[:split], arguments[split + 1 :]
    given = read_given(make_flags(), own, command="tfdist.launch", usage=USAGE, module=__name__, cure=_advise)
    given |= {name: tuple(given[name]) for name in ("hosts", "env") if name in given}
    return LaunchConfig(command=tuple(command), **given)


def _advise(rest):
    return f"Put what is to run after ` -- `: … -- {' '.join(rest)}"
