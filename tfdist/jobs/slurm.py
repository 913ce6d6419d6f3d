"""Slurm: a batch script, whose step has a task for each worker."""

import shlex

from tfdist.jobs.config import JobConfig
from tfdist.jobs.shell import ENDS, command_line, nccl_environment, setup_lines
from tfdist.process.exits import STOPPED

# `--wait` in place of `--kill-on-bad-exit`: workers that leave after the same step do not end at the same moment.
_STEP = """\
code=0
srun --kill-on-bad-exit=0 --wait={wait} --label {command} || code=$?
case $code in
  {ends}) exit $code ;;
  {stopped}) ;;
  *) [ "${{SLURM_RESTART_COUNT:-0}}" -lt {max_restarts} ] || exit $code ;;
esac
echo "exit code $code: the job is queued again" >&2
# A script that ends by itself ends the job; Slurm ends this one when it has queued the job again.
scontrol requeue "$SLURM_JOB_ID" && sleep 600
exit $code"""


def slurm_text(config: JobConfig) -> str:
    """Returns the text of a batch script for `sbatch`."""
    command = command_line(config, run_dir=config.run_dir, data_dir=config.data_dir)
    step = _STEP.format(
        wait=config.grace_seconds, command=command, ends=ENDS, stopped=STOPPED, max_restarts=config.max_restarts
    )
    lines = [
        "#!/bin/bash",
        "# Made by python -m tfdist.jobs slurm. Exit codes 2 and 77 end the job; after others it is queued again.",
        *(f"#SBATCH --{flag}" for flag in _flags(config)),
        "",
        *(f"export {name}={shlex.quote(value)}" for name, value in _environment(config).items()),
        *setup_lines(config),
        step,
        f"# sbatch {config.name}.sh",
    ]
    return "\n".join(lines) + "\n"


def _flags(config: JobConfig) -> list[str]:
    processes, cpus, memory = config.process_count_per_node, config.cpus_per_node, config.memory_gib_per_node
    optional = {
        "cpus-per-task": cpus and cpus // processes,
        "mem": memory and f"{memory}G",
        "gpus-per-node": config.gpus_per_node or None,
        "time": config.timeout_seconds and _clock(config.timeout_seconds),
        "partition": config.queue,
        "account": config.identity,
        "chdir": config.source_directory,
    }
    return [
        f"job-name={config.name}",
        f"nodes={config.node_count}",
        f"ntasks-per-node={processes}",
        *(f"{flag}={shlex.quote(str(value))}" for flag, value in optional.items() if value is not None),
        "output=%x-%j.out",
        # A job that starts again keeps its lines.
        "open-mode=append",
        "requeue",
        # To the tasks, so long before the time is over.
        f"signal=USR1@{config.grace_seconds}",
    ]


def _environment(config: JobConfig) -> dict[str, str]:
    port = {"TFDIST_PORT": str(config.port)} if config.port else {}
    # `srun` does not take it from the job since Slurm 22.05.
    share = (config.cpus_per_node or 0) // config.process_count_per_node
    processors = {"SRUN_CPUS_PER_TASK": str(share)} if share else {}
    return {"PYTHONUNBUFFERED": "1", **nccl_environment(config), **port, **processors}


def _clock(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest:02}"
