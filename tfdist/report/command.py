"""`python -m tfdist.report`: one page about a run, or about several beside each other."""

import importlib.util
import sys

from tfdist.process.errors import MissingPackageError, TfdistError, UsageError
from tfdist.process.exits import INTERRUPTED, MISTAKE
from tfdist.process.log import show
from tfdist.report.config import read_config
from tfdist.report.read import path_text, read_runs
from tfdist.report.tables import to_text
from tfdist.run.rundir import written_aside


def main(arguments=None):
    """Runs the command line, and returns the exit code."""
    try:
        config = read_config(sys.argv[1:] if arguments is None else arguments)
        runs = read_runs(config.run_dir)
        if config.text:
            show(to_text(runs))
        else:
            _show_page(config, runs)
    except TfdistError as error:
        print(f"tfdist.report: {error}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _show_page(config, runs):
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingPackageError("matplotlib draws the page. Install it (pip install matplotlib), or use --text.")
    # Late, because they load matplotlib.
    from tfdist.report import live, page

    if config.live:
        live.serve(config.run_dir, config.port)
    text = page.make_page(runs)
    try:
        with written_aside(config.page) as aside:
            aside.write_text(text)
    except OSError as error:
        raise UsageError(
            f"--out: {config.page} cannot be written ({error.strerror}). Give a file that you may write."
        ) from None
    show(f"{path_text(config.page)}, {config.page.stat().st_size / 1e3:.0f} kB. Open it in a browser.")
