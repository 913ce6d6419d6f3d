"""Shares flags, rounds, table and report between the benchmark scripts, without TensorFlow."""

import argparse
import dataclasses
import pathlib

from tfdist.bench import rounds, table
from tfdist.bench.report import FORMAT, describe_machine, read_commit
from tfdist.measure.summary import summarize
from tfdist.process.versions import read_versions
from tfdist.run import rundir


def read_flags(arguments, *, text, out_dir, default_rounds, more=()):
    """Reads `--rounds=N` and `--out_dir=FOLDER`.

    Args:
        arguments: what follows the script's name.
        text: the text of the help.
        out_dir: the folder of the committed report, which only `--out_dir` writes over; by default the report goes to
            runs/<its name>. None where the script names that folder itself.
        default_rounds: the default number of measurements of each contender.
        more: (name, keyword arguments of `add_argument`) for each of the script's own flags.
    """
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=default_rounds, help="how often each contender is measured")
    default = out_dir and pathlib.Path("runs") / out_dir.name
    where = f"where measured.json goes ({default or 'runs/<name>'})"
    parser.add_argument("--out_dir", type=pathlib.Path, default=default, help=where)
    for name, options in more:
        parser.add_argument(name, **options)
    given = parser.parse_args(arguments)
    if given.rounds < 1:
        parser.error(f"--rounds is {given.rounds}. Use 1 or more.")
    return given


def run(measures, given, *, measured):
    """Measures all contenders in interleaved rounds; prints the table and writes `measured.json`.

    Args:
        measures: name → a function () → {figure with its unit: number}.
        given: the result of `read_flags`.
        measured: what was measured, as JSON types.
    """
    report = make_report(rounds.interleave(measures, given.rounds), given.rounds, measured)
    given.out_dir.mkdir(parents=True, exist_ok=True)
    rundir.write_json(given.out_dir / "measured.json", report)
    print(render(report["results"]), flush=True)


def make_report(samples, rounds_done, measured):
    """Returns a report as JSON types.

    Args:
        samples: name → a list of {figure: number}, round by round.
        rounds_done: the number of rounds.
        measured: what was measured.
    """
    return {
        "format": FORMAT,
        "measured": measured,
        "rounds": rounds_done,
        "hardware": describe_machine(),
        "versions": read_versions(),
        "commit": read_commit(pathlib.Path(__file__).parent),
        "results": {name: _summaries(rows) for name, rows in samples.items()},
    }


def _summaries(rows):
    values = {figure: [row[figure] for row in rows] for figure in rows[0]}
    return {figure: dataclasses.asdict(summarize(numbers)) | {"values": numbers} for figure, numbers in values.items()}


def median(report, name, figure):
    """Returns the median of a figure of one contender."""
    return report["results"][name][figure]["median"]


def render(results):
    """Returns the text of a report's results: medians, with the standard errors of the means."""
    figures = list(dict.fromkeys(figure for summaries in results.values() for figure in summaries))
    columns = [("medians ± error", "<"), *((figure, ">") for figure in figures)]
    return table.lay_out(columns, [[name, *_cells(summaries, figures)] for name, summaries in results.items()])


def _cells(summaries, figures):
    there = [summaries.get(figure) for figure in figures]
    return ["" if found is None else _figure(found) for found in there]


def _figure(found):
    # One sample does not show its noise.
    error = f" ± {found['error']:.2g}" if found["samples"] > 1 else ""
    return f"{found['median']:.4g}{error}"
