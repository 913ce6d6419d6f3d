"""The plan of a launch: slots, workers, their environment, commands and logs; nothing is started."""

import shlex
import sys
from dataclasses import dataclass

from tfdist.cluster.members import Cluster, Task
from tfdist.process import faults
from tfdist.run.rundir import RESTARTS

# The launcher pings far more often, so a connection without input for so long is dead. On this machine there is no
# limit, because a pipe does not break, and a launcher that is stopped with Ctrl-Z may stay stopped.
_SILENCE_SECONDS = 300.0
# ssh notices within about 15 s that a host is gone; otherwise the other workers would look stuck.
_SSH = ("ssh", "-T", "-oBatchMode=yes", "-oConnectTimeout=10", "-oServerAliveInterval=5", "-oServerAliveCountMax=3")


@dataclass(frozen=True)
class Slot:
    """A place for a worker, the same in all attempts.

    Attributes:
        number: its position among all slots.
        host: the host's name for ssh; None for this machine.
        index: its position among the slots of its host, which decides its share of the GPUs.
    """

    number: int
    host: str | None
    index: int

    def __str__(self):
        return f"slot {self.number}" if self.host is None else f"slot {self.index} of {self.host}"


@dataclass(frozen=True)
class Worker:
    """One worker of one attempt.

    Attributes:
        rank: its position in the cluster.
        slot: where it runs.
        environ: the environment variables that it does not inherit.
        command: the words after `python`.
        log: the path of its log.
    """

    rank: int
    slot: Slot
    environ: dict[str, str]
    command: tuple[str, ...]
    log: str

    def __str__(self):
        return f"worker {self.rank}" + (f" on {self.slot.host}" if self.slot.host else "")


def make_slots(config):
    """Returns all `Slot`s of a launch, in the order of the hosts."""
    hosts = config.hosts or (None,)
    count = config.size // len(hosts)
    return tuple(
        Slot(number=position * count + index, host=host, index=index)
        for position, host in enumerate(hosts)
        for index in range(count)
    )


def addresses(config, slots, ports=None):
    """Returns the address "host:port" of each slot.

    Args:
        config: a `LaunchConfig`.
        slots: the slots that take part.
        ports: free ports of this machine, one for each slot; not needed with hosts.
    """
    if config.hosts:
        return tuple(f"{slot.host.rpartition('@')[2]}:{config.port + slot.index}" for slot in slots)
    return tuple(f"127.0.0.1:{port}" for port in ports)


def make_workers(config, folders, slots, attempt=0, ports=None):
    """Returns the `Worker`s of an attempt.

    Args:
        config: a `LaunchConfig`.
        folders: its `Folders`.
        slots: the slots that take part, in the order of ranks.
        attempt: the number of earlier attempts.
        ports: free ports of this machine, one for each slot; not needed with hosts.
    """
    places = addresses(config, slots, ports)
    shared = {**config.environ, "PYTHONUNBUFFERED": "1", faults.ATTEMPT: str(attempt)}
    shared[RESTARTS] = str(folders.attempts)
    if config.chaos:
        shared[faults.FAULTS] = config.faults_text()
    return tuple(
        Worker(
            rank,
            slot,
            shared | Cluster({"worker": places}, Task("worker", rank), "--hosts").environment(),
            folders.command,
            str(folders.log(rank)),
        )
        for rank, slot in enumerate(slots)
    )


def agent_command(config, host, folder):
    """Returns the command that starts the agent of a host.

    Args:
        config: a `LaunchConfig`.
        host: None for this machine.
        folder: the working folder, which is the same on every host.
    """
    agent = ("-m", "tfdist.launch.agent")
    if host is None:
        return (sys.executable, *agent)
    # One string, quoted for the shell on the other host.
    return (*_SSH, "--", host, f"cd {shlex.quote(str(folder))} && exec {shlex.join((config.python, *agent))}")


def agent_spec(config, workers, attempt):
    """Returns the command "start" of an agent as JSON types; `workers` are those of its host."""
    count = config.size // max(1, len(config.hosts))
    return {
        "do": "start",
        "attempt": attempt,
        "grace": config.grace,
        **({"silence_seconds": _SILENCE_SECONDS} if config.hosts else {}),
        "python": config.python,
        "workers": [
            {
                "rank": worker.rank,
                "environ": worker.environ,
                "command": list(worker.command),
                "log": worker.log,
                "shown": config.shows(worker.rank),
                "share": [worker.slot.index, count],
                # Among the workers of this attempt, because a slot that stays away computes nothing.
                "core_share": [place, len(workers)] if config.divide_cores else [0, 1],
            }
            for place, worker in enumerate(workers)
        ],
    }


def text(config, workers, folder):
    """Returns the output of `--dry_run` or `--tf_config_only`."""
    if config.tf_config_only:
        return "\n".join(worker.environ["TF_CONFIG"] for worker in workers)
    lines = []
    for host in dict.fromkeys(worker.slot.host for worker in workers):
        lines += [f"# agent{f' of {host}' if host else ''}:", shlex.join(agent_command(config, host, folder))]
    for worker in workers:
        variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in worker.environ.items())
        lines += [f"# {worker}, log {worker.log}:", f"{variables} {shlex.join((config.python, *worker.command))}"]
    return "\n".join(lines)
