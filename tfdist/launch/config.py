"""The config of a launch, and the checks for contradictions in it."""

import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from tfdist.cluster.addresses import ClusterError, split_address
from tfdist.options.fields import option
from tfdist.process import errors, faults, heartbeat
from tfdist.process.errors import UsageError
from tfdist.process.faults import Fault
from tfdist.run.rundir import RESTARTS

_TEES = ("all", "chief", "none")
# The launcher sets these itself.
_OWN = ("TF_CONFIG", faults.FAULTS, faults.ATTEMPT, RESTARTS, heartbeat.FOLDER, errors.CAUSES)


@dataclass(frozen=True)
class LaunchConfig:
    """The workers to start, their hosts, and the restarts after their end; checked when made.

    Attributes:
        command: The words after `python`: `-m module …` or `script.py …`.

    Raises:
        ValueError: a flag is wrong; the message names it, its value and the remedy.
    """

    command: tuple[str, ...] = ()
    workers: int | None = option(None, help="Processes on this machine, on free ports of 127.0.0.1.")
    hosts: tuple[str, ...] = option((), help="Hosts to start on over ssh, such as a,b or user@a,user@b.", shown="none")
    port: int = option(12345, help="Port of the first process on each of --hosts; the next count up.")
    processes_per_host: int = option(1, help="Processes on each of --hosts; they divide its GPUs.")
    divide_cores: bool = option(
        True, help="Run each worker on its share of a host's cores, where the host has no GPUs."
    )
    min_workers: int | None = option(
        None, help="Fewest workers to continue with when a host or slot stays away.", shown="all"
    )
    max_restarts: int = option(0, help="Restarts of all workers after failures.")
    backoff_seconds: float = option(
        5.0, help="Wait before a restart; doubles with each failure in a row, none after a run of five minutes."
    )
    grace: float = option(30.0, help="Seconds between a signal that is passed on and SIGKILL.")
    hang_seconds: float = option(
        600.0, help="Longest time without a heartbeat, for workers that send them; 0 for no limit."
    )
    first_step_seconds: float = option(1800.0, help="Longest time without a heartbeat before the first step.")
    chaos: str = option("", help="Faults to inject: kill:worker=1,step=50; lose:… keeps the slot away.")
    log_dir: str | None = option(
        None, help="Folder of the logs.", shown="<run_dir>/logs of the command, else runs/launch-<n>"
    )
    tee: str = option("chief", help="Workers whose lines to show: all, chief, none, or ranks such as 0,2.")
    quiet: bool = option(False, help="Show only why a run failed.")
    python: str = option(sys.executable, help="The interpreter of agents and workers.", shown="this one")
    env: tuple[str, ...] = option((), help="NAME=VALUE for the workers.", repeated=True, shown="none")
    dry_run: bool = option(False, help="Print the commands, and start nothing.")
    tf_config_only: bool = option(False, help="Print each worker's TF_CONFIG, and start nothing.")

    def __post_init__(self) -> None:
        _check_where(self)
        _check_numbers(self)
        _check_command(self.command, needed=not self.tf_config_only)
        _check_output(self)
        self.faults()

    @property
    def size(self) -> int:
        """The number of workers when no slot stays away."""
        return len(self.hosts) * self.processes_per_host if self.hosts else self.workers or 0

    @property
    def fewest(self) -> int:
        """The smallest number of workers with which the launcher continues."""
        return self.size if self.min_workers is None else self.min_workers

    @property
    def environ(self) -> dict[str, str]:
        """The environment variables of `env` by name."""
        return {name: value for name, _, value in (item.partition("=") for item in self.env)}

    def shows(self, rank: int) -> bool:
        """Returns whether the terminal shows the lines of a worker."""
        if self.quiet or self.tee == "none":
            return False
        return self.tee == "all" or str(rank) in ("0" if self.tee == "chief" else self.tee).split(",")

    def faults(self) -> tuple[tuple[Fault, bool], ...]:
        """Returns the faults to inject, each with whether its slot stays away.

        Raises:
            ValueError: a fault is malformed, or its worker does not exist.
        """
        found = [(fault, lost) for part, lost in self._chaos() for fault in faults.parse(part)]
        for fault, _ in found:
            if self.size and fault.worker >= self.size:
                raise UsageError(f"--chaos: {fault} is for none of the workers 0..{self.size - 1}. Use one of them.")
        return tuple(found)

    def faults_text(self) -> str:
        """Returns the faults as the workers parse them, with `kill` in place of `lose`."""
        return ";".join(part for part, _ in self._chaos())

    def _chaos(self) -> Iterator[tuple[str, bool]]:
        for part in filter(None, map(str.strip, self.chaos.split(";"))):
            lost = part.partition(":")[0] == "lose"
            yield part.replace("lose", "kill", 1) if lost else part, lost


def _raise_first(*checks: tuple[bool, str]) -> None:
    for wrong, message in checks:
        if wrong:
            raise UsageError(message)


def _check_where(config: LaunchConfig) -> None:
    _raise_first(
        (
            config.workers is not None and bool(config.hosts),
            f"--workers={config.workers} counts processes on this machine, but --hosts names others. Use "
            "--processes_per_host with --hosts.",
        ),
        (
            config.workers is None and not config.hosts,
            "there are no workers to start. Give --workers=N for this machine, or --hosts=a,b.",
        ),
        (
            config.processes_per_host != 1 and not config.hosts,
            f"--processes_per_host={config.processes_per_host} needs --hosts. Use --workers on this machine.",
        ),
        (config.workers is not None and config.workers < 1, f"--workers={config.workers}: use 1 or more."),
        (config.processes_per_host < 1, f"--processes_per_host={config.processes_per_host}: use 1 or more."),
    )
    for host in config.hosts:
        if not re.fullmatch(r"([\w.-]+@)?[^@]+", host) or host.startswith("-"):
            raise UsageError(
                f"--hosts: {host!r} is not a host. Write names with commas between, such as a,b or user@a,user@b."
            )
        try:
            split_address(
                f"{host.rpartition('@')[2]}:{config.port + config.processes_per_host - 1}",
                "--hosts, --port: an address",
            )
        except ClusterError as error:
            raise UsageError(str(error)) from None
    twice = next((host for host in config.hosts if config.hosts.count(host) > 1), None)
    if twice:
        raise UsageError(f"--hosts: {twice} is listed twice. Use --processes_per_host for several on one host.")


def _check_numbers(config: LaunchConfig) -> None:
    names = ("max_restarts", "backoff_seconds", "grace", "hang_seconds", "first_step_seconds")
    for name in names:
        if not 0 <= getattr(config, name) < math.inf:
            raise UsageError(f"--{name}={getattr(config, name)}: use a number, 0 or more.")
    fewest = config.min_workers
    if fewest is None:
        return
    _raise_first(
        (not 1 <= fewest <= config.size, f"--min_workers={fewest}: use 1..{config.size}, the number of workers."),
        (
            fewest < config.size and not config.max_restarts,
            f"--min_workers={fewest}: continuing with fewer workers needs a restart. Add --max_restarts.",
        ),
    )


def _check_command(command: tuple[str, ...], needed: bool) -> None:
    if not command:
        if needed:
            raise UsageError("nothing to run. Put `-m module …` or `script.py …` after ` -- `.")
        return
    first = command[0]
    _raise_first(
        (
            re.fullmatch(r"(.*/)?python[\d.]*", first) is not None,
            f"{first!r} after ` -- `: the launcher starts Python itself. Leave it out; --python sets another "
            "interpreter.",
        ),
        (first in ("-m", "-c") and len(command) == 1, f"{first} after ` -- `: what to run is missing."),
    )


def _check_output(config: LaunchConfig) -> None:
    if config.dry_run and config.tf_config_only:
        raise UsageError("--dry_run prints TF_CONFIG too. Use it, or --tf_config_only, not both.")
    ranks = config.tee.split(",")
    if config.tee not in _TEES and not all(rank.isdecimal() and int(rank) < config.size for rank in ranks):
        raise UsageError(
            f"--tee={config.tee}: use all, chief, none, or ranks of 0..{config.size - 1} with commas between."
        )
    for item in config.env:
        name, equals, _ = item.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise UsageError(f"--env={item}: write --env=NAME=VALUE.")
        if name in _OWN:
            raise UsageError(f"--env={item}: the launcher itself sets {name}. Leave it out.")
