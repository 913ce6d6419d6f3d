"""The command line of `tfdist.doctor` → a `DoctorConfig`."""

import dataclasses

from tfdist.doctor.acceptance.checks import NAMES
from tfdist.options import DEFAULT_GLOBAL_BATCH
from tfdist.options.command_line import read_given
from tfdist.options.fields import option
from tfdist.process.errors import UsageError
from tfdist.process.nearest import did_you_mean

USAGE = """Checks this machine, and the ways between the workers, before a run.

  python -m tfdist.doctor
  python -m tfdist.doctor runs/digits-1 --dataset=images --data_dir=DIR
  python -m tfdist.doctor --environment
  python -m tfdist.doctor --acceptance

Checks what a run needs: versions, devices, memory, disk. In a cluster it also checks names, ports and the other
workers, and runs an all-reduce among them: start it on every worker at the same time. The exit code is 1 if any line is
red. With --environment it only shows what tfdist reads from the variables of this process.

With --acceptance it proves tfdist on this machine instead, in minutes: it trains in many ways on its devices, compares
with plain Keras on one CPU device, and writes one page, also to tfdist-acceptance.txt, to paste into an issue.

Flags:
"""

# A flag that chooses what is done → the flags that go with it.
_KINDS = {"acceptance": ("acceptance", "only", "timeout_seconds"), "environment": ("environment", "json")}


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
    environment: bool = option(
        False, help="Show only which variable tells of the other workers, and the TF_CONFIG that follows."
    )
    acceptance: bool = option(False, help="Compare training on this machine with one CPU device, and write a page.")
    only: tuple[str, ...] = option(
        (), help=f"Checks of --acceptance, with commas between: {', '.join(NAMES)}.", shown="all"
    )

    def __post_init__(self):
        self._check_kind()
        if self.data_dir is not None and self.dataset is None:
            raise UsageError("--data_dir needs --dataset. Give the name of the data set in that folder.")
        if not self.timeout_seconds > 0:
            raise UsageError(f"--timeout_seconds is {self.timeout_seconds:g}. Use a number above 0.")
        if self.global_batch < 1:
            raise UsageError(f"--global_batch is {self.global_batch}. Use 1 or more.")

    def _check_kind(self):
        if self.only and not self.acceptance:
            raise UsageError("--only chooses among the checks of --acceptance. Add --acceptance, or leave it out.")
        if self.acceptance and self.run_dir in NAMES:
            raise UsageError(f"{self.run_dir!r} is not a flag. {_advise([*self.only, self.run_dir])}")
        for kind in filter(lambda kind: getattr(self, kind), _KINDS):
            for field in dataclasses.fields(self):
                if field.name not in _KINDS[kind] and getattr(self, field.name) != field.default:
                    raise UsageError(f"--{kind} does not go with --{field.name}. Leave one of them out.")
        for name in self.only:
            if name not in NAMES:
                known = ", ".join(NAMES)
                raise UsageError(f"--only: {name!r} is no check. Use some of {known}.{did_you_mean(name, NAMES)}")


def _advise(words):
    """Returns what to do about words that are not flags."""
    if set(words) & set(NAMES):
        return f"Write commas between the names of checks, without spaces: --only={','.join(words)}."
    return "Write --name=value; see python -m tfdist.doctor --help."


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
    given = read_given((DoctorConfig,), arguments, command="tfdist.doctor", usage=USAGE, first="run_dir", cure=_advise)
    if given.get("only") == ():
        raise UsageError(f"--only is empty. Use some of {', '.join(NAMES)}, or leave it out for all.")
    return DoctorConfig(**given)
