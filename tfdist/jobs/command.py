"""`python -m tfdist.jobs`: prints the text of a job."""

import sys
from collections.abc import Sequence

from tfdist.jobs.flags import read_config
from tfdist.jobs.text import job_text
from tfdist.process.errors import TfdistError
from tfdist.process.exits import MISTAKE
from tfdist.process.log import show


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    try:
        text = job_text(read_config(sys.argv[1:] if arguments is None else arguments))
    except TfdistError as error:
        print(f"tfdist.jobs: {error}", file=sys.stderr)
        return MISTAKE
    show(text.removesuffix("\n"))
    return 0
