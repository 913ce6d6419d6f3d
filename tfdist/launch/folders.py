"""Where a launch writes, and what its command has to know of it."""

import pathlib
from dataclasses import dataclass

from tfdist.run import rundir


@dataclass(frozen=True)
class Folders:
    """Where a launch writes.

    Attributes:
        logs: one file a worker, and launch.json.
        command: what follows `python`, with the run_dir that the launcher chose.
        chose_run_dir: whether it did.
    """

    logs: pathlib.Path
    command: tuple[str, ...]
    chose_run_dir: bool = False

    @property
    def attempts(self):
        """The list of attempts, with the reason for each restart."""
        return self.logs / "launch.json"

    def log(self, rank):
        """Gives the log of a worker."""
        return self.logs / f"worker-{rank}.log"


def find_folders(config):
    """Decides where a launch writes; makes no folder.

    Args:
        config: a `LaunchConfig`.

    Returns:
        `Folders`: the logs in --log_dir, or with the run that the command names, or in the next free runs/launch-<n>.
    """
    given = _read_run_dir(config.command)
    path = pathlib.Path(given).expanduser() if given else rundir.next_free("runs", "launch").path
    # A single worker, too: it would take the next free folder at each restart, and never go on.
    chooses = given is None and config.command[:2] == ("-m", "tfdist.train")
    logs = rundir.RunDir(path).logs if given or chooses else path
    if config.log_dir:
        logs = pathlib.Path(config.log_dir).expanduser()
    command = (*config.command, f"--run_dir={path}") if chooses else config.command
    # Absolute, for agents on other hosts and whoever changes the folder.
    return Folders(logs.absolute(), command, chooses)


def _read_run_dir(command):
    found = None
    for word, following in zip(command, (*command[1:], None), strict=False):
        if word in ("--run_dir", "-run_dir"):
            found = following
        elif word.startswith(("--run_dir=", "-run_dir=")):
            found = word.partition("=")[2]
    return found
