"""The folders of a launch, and the command with its run_dir."""

import pathlib
from dataclasses import dataclass

from tfdist.run import rundir


@dataclass(frozen=True)
class Folders:
    """The folders of a launch.

    Attributes:
        logs: the folder with one log for each worker, and launch.json.
        command: the words after `python`, including a run_dir that the launcher chose.
        run_dir: the run's folder, as the command has it; None if it has none.
        chose_run_dir: whether the launcher chose the run_dir.
    """

    logs: pathlib.Path
    command: tuple[str, ...]
    run_dir: pathlib.Path | None = None
    chose_run_dir: bool = False

    @property
    def attempts(self):
        """The path of launch.json: the list of attempts, with the reason for each restart."""
        return self.logs / "launch.json"

    def log(self, rank):
        """Returns the path of a worker's log."""
        return self.logs / f"worker-{rank}.log"


def find_folders(config):
    """Returns the folders of a launch; makes none.

    Args:
        config: a `LaunchConfig`.

    Returns:
        `Folders`: the logs are in --log_dir, or in the run_dir of the command, or in the next free runs/launch-<n>.
    """
    given = _read_run_dir(config.command)
    path = pathlib.Path(given).expanduser() if given else rundir.next_free("runs", "launch").path
    # For a single worker too, because it would take the next free folder at each restart, and never resume.
    chooses = given is None and config.command[:2] == ("-m", "tfdist.train")
    logs = rundir.RunDir(path).logs if given or chooses else path
    if config.log_dir:
        logs = pathlib.Path(config.log_dir).expanduser()
    command = (*config.command, f"--run_dir={path}") if chooses else config.command
    # Absolute, for agents on other hosts and workers that change their working folder.
    return Folders(logs.absolute(), command, path if given or chooses else None, chooses)


def _read_run_dir(command):
    found = None
    for word, following in zip(command, (*command[1:], None), strict=False):
        if word in ("--run_dir", "-run_dir"):
            found = following
        elif word.startswith(("--run_dir=", "-run_dir=")):
            found = word.partition("=")[2]
    return found
