"""The command line of `tfdist.doctor` → a `DoctorConfig`."""

import dataclasses

from tfdist.options import DEFAULT_GLOBAL_BATCH
from tfdist.options.command_line import read_given
from tfdist.options.fields import option
from tfdist.process.errors import UsageError

USAGE = """Checks this machine, and the ways between the workers, before a run.

  python -m tfdist.doctor
  python -m tfdist.doctor runs/digits-1 --dataset=images --data_dir=DIR

Checks what a run needs: versions, devices, memory, disk. In a cluster (TF_CONFIG, or a Slurm step) it also checks
names, ports and the other workers, and runs an all-reduce among them: start it on every worker at the same time. The
exit code is 1 if any line is red.

Flags:
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """What is checked beside the machine; each field is a flag."""

    run_dir: str | None = option(None, help="A run's folder, whose checkpoints are verified; also without --run_dir=.")
    dataset: str | None = option(None, help="A name for tfdist.data.load: prints what each worker would read.")
    split: str = option("train", help="The split of the data set.")
    data_dir: str | None = option(None, help="The folder that holds the data set.")
    global_batch: int = option(DEFAULT_GLOBAL_BATCH, help="Rows of a step, over all replicas.")
    timeout_seconds: float = option(120.0, help="Time limit for each check that waits.")
    json: bool = option(False, help="Print one JSON object at the end.")

    def __post_init__(self):
        if self.data_dir is not None and self.dataset is None:
            raise UsageError("--data_dir needs --dataset. Give the name of the data set in that folder.")
        if not self.timeout_seconds > 0:
            raise UsageError(f"--timeout_seconds is {self.timeout_seconds:g}. Use a number above 0.")
        if self.global_batch < 1:
            raise UsageError(f"--global_batch is {self.global_batch}. Use 1 or more.")


def read_config(arguments):
    """Reads a command line.

    Args:
        arguments: what follows `python -m tfdist.doctor`.

    Returns:
        A `DoctorConfig`.

    Raises:
        SystemExit: help was asked for, and printed.
        ValueError: a flag or a value is wrong; the message says which and what to do.
    """
    given = read_given((DoctorConfig,), arguments, command="tfdist.doctor", usage=USAGE, first="run_dir")
    return DoctorConfig(**given)
