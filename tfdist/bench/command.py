"""`python -m tfdist.bench`: how fast tfdist trains a model, and others beside it."""

import pathlib
import sys

from tfdist.bench import compare, config, report, session, table
from tfdist.process.errors import TfdistError, UsageError
from tfdist.process.exits import INTERRUPTED, MISTAKE
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


def run(wishes):
    """Measures, prints the table, writes the report; gives the exit code.

    Args:
        wishes: a `BenchConfig`.

    Raises:
        ValueError: the older report is of something else, or tfdist itself could not be measured.
    """
    old = rundir.read_json(wishes.against) if wishes.against else None
    if old is not None:
        # Before minutes are spent on what could not be compared.
        compare.check_same_task(old, {"format": report.FORMAT, "measured": wishes.measured()})
    folder = pathlib.Path(wishes.out_dir) if wishes.out_dir else rundir.next_free("runs", "bench").path
    folder.mkdir(parents=True, exist_ok=True)
    results, devices, notes = session.run(wishes, folder / "profile" if wishes.profile_steps else None)
    new = report.make_report(wishes, results, devices)
    rundir.write_json(folder / "bench.json", new)
    print(table.render(results, notes))
    print(f"\nreport: {folder / 'bench.json'}\n{report.draw(new, folder / 'bench.png')}")
    if failed := [result["error"] for result in results if result["contender"] == config.OURS and result["error"]]:
        raise UsageError(f"{config.OURS} could not be measured: {failed[0]}")
    return 0 if old is None else compare_with(old, new)


def compare_with(old, new):
    """Prints what changed since an older report; gives the exit code."""
    found = compare.changes(old, new)
    compare.check_lines(found)
    print("\nagainst the older report:", *found, sep="\n")
    return SLOWER if compare.regressions(found) else 0
