"""Runs `python -m tfdist.bench`, which measures how fast tfdist and other contenders train a model."""

import pathlib
import sys

from tfdist.bench import compare, config, report, session, table
from tfdist.process.errors import TfdistError, UsageError
from tfdist.process.exits import INTERRUPTED, MISTAKE
from tfdist.process.versions import check_tensorflow
from tfdist.run import rundir

SLOWER = 1


def main(arguments=None):
    """Runs the command line; returns the exit code."""
    try:
        return run(config.read_config(sys.argv[1:] if arguments is None else arguments))
    except (TfdistError, OSError) as error:
        print(f"tfdist.bench: {error}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        return INTERRUPTED


def run(settings):
    """Measures, prints the table, writes the report; returns the exit code.

    Args:
        settings: a `BenchConfig`.

    Raises:
        ValueError: the older report is of another measurement, or tfdist itself could not be measured.
    """
    check_tensorflow()
    old = rundir.read_json(settings.against) if settings.against else None
    if old is not None:
        # Checked first, so that no minutes are spent on what cannot be compared.
        compare.check_same_task(old, {"format": report.FORMAT, "measured": settings.measured()})
    folder = pathlib.Path(settings.out_dir) if settings.out_dir else rundir.next_free("runs", "bench").path
    folder.mkdir(parents=True, exist_ok=True)
    results, devices, notes = session.run(settings, folder / "profile" if settings.profile_steps else None)
    new = report.make_report(settings, results, devices)
    rundir.write_json(folder / "bench.json", new)
    print(table.render(results, notes))
    print(f"\nreport: {folder / 'bench.json'}\n{report.draw(new, folder / 'bench.png')}")
    if failed := [result["error"] for result in results if result["contender"] == config.OURS and result["error"]]:
        raise UsageError(f"{config.OURS} could not be measured: {failed[0]}")
    return 0 if old is None else compare_with(old, new)


def compare_with(old, new):
    """Prints what changed since an older report; returns the exit code."""
    found = compare.changes(old, new)
    compare.check_lines(found)
    print("\nagainst the older report:", *found, sep="\n")
    return SLOWER if compare.regressions(found) else 0
