"""The command line of `tfdist.jobs` → a `JobConfig`."""

from collections.abc import Sequence

from tfdist.jobs.config import JobConfig
from tfdist.options.command_line import read_given
from tfdist.process.errors import UsageError

USAGE = """Prints the text of a job that trains on several nodes, and submits nothing.

  python -m tfdist.jobs slurm --node_count=2 --gpus_per_node=4 --run_dir=/shared/runs/1 -- -m tfdist.train > job.sh
  python -m tfdist.jobs kubernetes --node_count=4 --image=IMAGE --volumes=runs:/runs --run_dir=/runs/1 -- train.py
  python -m tfdist.jobs tfjob --node_count=4 --image=IMAGE --entry_script=train.py --script_params='{"--epochs": 5}'
  python -m tfdist.jobs azureml --node_count=2 --image=IMAGE --queue=COMPUTE -- train.py

After ` -- ` stands what would follow `python`. The job starts again after exit codes 75 and 76 and goes on from the
last checkpoint in --run_dir; it ends after 0, 2 and 77. The last line says how to submit it.

Flags:
"""


def read_config(arguments: Sequence[str]) -> JobConfig:
    """Reads a command line.

    Args:
        arguments: the words after `python -m tfdist.jobs`.

    Raises:
        SystemExit: help was asked for, and printed.
        ValueError: a flag or a value is wrong; the message says which and what to do.
    """
    words = list(arguments)
    if "--" not in words and "-m" in words:
        raise UsageError(f"'-m' is not a flag. {_advise(words[words.index('-m') :])}")
    split = words.index("--") if "--" in words else len(words)
    given = read_given((JobConfig,), words[:split], command="tfdist.jobs", usage=USAGE, first="target", cure=_advise)
    return JobConfig(command=tuple(words[split + 1 :]), **given)


def _advise(rest: Sequence[str]) -> str:
    return f"Put what is to run after ` -- `: … -- {' '.join(rest)}"
