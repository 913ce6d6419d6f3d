"""Parts of all job texts: the command, what is installed before it, NCCL's network, and what a container runs."""

import shlex
import textwrap
from collections.abc import Sequence

from tfdist.jobs.config import JobConfig
from tfdist.process.exits import MISTAKE, NOT_FINITE, STOPPED

# The same command would end the same way.
FINAL = (MISTAKE, NOT_FINITE)
_NETWORKS = {"tcp": "Socket", "infiniband": "IB"}
# As the pattern of a shell's `case`.
ENDS = "|".join(map(str, (0, *FINAL)))

# The shell is the first process of a container. It passes SIGTERM on, and its end would cut off the log's last lines.
_HEAD = (
    "leave() { sleep 1; exit $1; }",
    "trap 'asked=1; kill -TERM $worker 2>/dev/null' TERM",
)
_WORKER = """\
{command} &
worker=$!
wait $worker
code=$?
# A signal ends `wait` early, and the worker still has to save.
while kill -0 $worker 2>/dev/null; do wait $worker; code=$?; done"""

_LOOP = """\
restarts=0
until [ "$asked" ]; do
{worker}
  case $code in
    {ends}) leave $code ;;
    {stopped}) ;;
    *) if [ $restarts -ge {max_restarts} ]; then leave 1; fi
       restarts=$((restarts + 1)) ;;
  esac
  [ "$asked" ] || sleep 5
done
leave {asked_code}"""


def command_line(config: JobConfig, *, run_dir: str | None, data_dir: str | None) -> str:
    """Returns the command of a worker, quoted for a shell.

    Args:
        config: the `JobConfig`.
        run_dir, data_dir: the folders as the worker sees them; None where there are none.
    """
    folders = [f"--{name}={path}" for name, path in (("run_dir", run_dir), ("data_dir", data_dir)) if path is not None]
    return shlex.join((config.python, *config.script, *folders))


def nccl_environment(config: JobConfig) -> dict[str, str]:
    """Returns the variable that binds NCCL to a network; without that network NCCL fails, and takes no slower one."""
    return {"NCCL_NET": _NETWORKS[config.network]} if config.network else {}


def setup_lines(config: JobConfig) -> list[str]:
    """Returns the lines that install packages."""
    pip, conda = (config.python, "-m", "pip", "install", "--quiet"), ("conda", "install", "--yes", "--quiet")
    commands = ((conda, config.conda_packages), (pip, config.pip_packages))
    return [f"{shlex.join((*words, *packages))} || exit" for words, packages in commands if packages]


def container_lines(config: JobConfig) -> list[str]:
    """Returns what a container runs before the worker: it installs packages, and copies the log to the run's volume."""
    if config.run_dir is None:
        return setup_lines(config)
    logs = shlex.quote(f"{config.run_dir.rstrip('/')}/logs")
    return [*setup_lines(config), f"mkdir -p {logs} || exit", f"exec > >(exec tee -a {logs}/$HOSTNAME.log) 2>&1"]


def once(command: str, *, before: Sequence[str]) -> str:
    """Returns the script of a container that runs the command and ends with its exit code.

    Args:
        command: the result of `command_line`.
        before: lines before it.
    """
    return "\n".join([*before, *_HEAD, _WORKER.format(command=command), "leave $code"])


def restarted(config: JobConfig, command: str, *, before: Sequence[str], asked_code: int) -> str:
    """Returns the script of a container that itself starts the command again after the exit codes that ask for it.

    Args:
        config: the `JobConfig`.
        command: the result of `command_line`.
        before: lines before it.
        asked_code: the exit code after a SIGTERM, with which the scheduler starts the container elsewhere.
    """
    worker = textwrap.indent(_WORKER.format(command=command), "  ")
    loop = _LOOP.format(
        worker=worker, ends=ENDS, stopped=STOPPED, max_restarts=config.max_restarts, asked_code=asked_code
    )
    return "\n".join([*before, *_HEAD, loop])
