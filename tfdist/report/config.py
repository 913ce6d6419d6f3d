"""The command line of `tfdist.report` → a `ReportConfig`."""

import dataclasses
import pathlib

from tfdist.options.command_line import read_given
from tfdist.options.fields import option
from tfdist.process.errors import UsageError

USAGE = """Makes one HTML page about a run, or about several runs beside each other.

  python -m tfdist.report runs/digits_cnn-1
  python -m tfdist.report runs/digits_cnn-1 runs/digits_cnn-2 --out=both.html
  python -m tfdist.report runs/digits_cnn-1 --live

The page is one file that loads nothing from elsewhere: metrics, throughput, where the time went, restarts and their
causes; of several runs also what differs in their configs. A run that goes on has a page too.

Flags:
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """What is reported, and where; each field is a flag."""

    run_dir: tuple[str, ...] = option(
        (), help="Folders of runs, with commas between; also without --run_dir=.", shown="none"
    )
    out: str = option("", help="The HTML file.", shown="report.html, of one run in its folder, else here")
    text: bool = option(False, help="Print the tables in the terminal, and write no page.")
    live: bool = option(False, help="Serve the page on 127.0.0.1, always of what the folder holds now.")
    port: int | None = option(None, help="The port of --live; 0 for any that is free.", shown="8127")

    def __post_init__(self):
        if not all(self.run_dir) or not self.run_dir:
            raise UsageError("there is no run. Give the folder of one, or of several: runs/digits_cnn-1.")
        given = [name for name in ("out", "text", "live") if getattr(self, name)]
        if len(given) > 1:
            raise UsageError(f"--{given[0]} does not go with --{given[1]}. Leave one of them out.")
        if self.out and not pathlib.Path(self.out).name:
            raise UsageError(f"--out is {self.out!r}, which is a folder. Give a file.")
        if self.port is not None and not self.live:
            raise UsageError("--port is the port of --live. Add --live, or leave it out.")
        if not 0 <= (self.port or 0) < 2**16:
            raise UsageError(f"--port is {self.port}. Use a whole number in 0..{2**16 - 1}.")

    @property
    def page(self):
        """The path of the HTML file."""
        return pathlib.Path(self.out or pathlib.Path(self.run_dir[0] if len(self.run_dir) == 1 else ".", "report.html"))


def read_config(arguments):
    """Reads what follows `python -m tfdist.report`; returns a `ReportConfig`.

    Raises:
        SystemExit: help was asked for, and printed.
        ValueError: a flag or a value is wrong; the message says which and what to do.
    """
    given = read_given((ReportConfig,), arguments, command="tfdist.report", usage=USAGE, first="run_dir")
    return ReportConfig(**given)
