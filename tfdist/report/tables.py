"""What a report says in words: tables, which the page and the terminal show alike. All functions are pure."""

import datetime
import itertools
import json
import statistics
import textwrap
from typing import NamedTuple

from tfdist.report.goodput import number

# Numbers of a line that are no metrics.
_OTHER = {
    *("epoch", "step", "time", "learning_rate", "examples_per_second", "examples_per_second_per_replica"),
    *("step_seconds", "step_spread", "input_share", "bytes_reduced_per_step", "slowest_worker"),
}
# The most letters of a cell where runs are beside each other in a terminal.
_CELL = 32


class Table(NamedTuple):
    """A table of the report.

    Attributes:
        title: its heading.
        columns: the heads of the columns.
        rows: the rows of text.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def make_tables(runs):
    """Returns the `Table`s about `RunRecord`s; one without rows is left out."""
    timed = [run for run in runs if run.account.pieces]
    shares = [{kind: _share(run.account, kind) for kind in run.account.seconds} for run in timed]
    lost = ("failed at", "cause", "step logged", "went on from", "repeated", "restart", "lost")
    tables = [
        _beside("What differs in the configs", runs, _differences(runs)),
        _beside("Result", runs, [_figures(run) for run in runs]),
        _beside("Where the time went", timed, shares),
        Table("Restarts", ("run", "no.", *lost), [row for run in runs for row in _restarts(run)]),
    ]
    return [table for table in tables if table.rows]


def to_text(runs):
    """Returns the report for a terminal."""
    lines = [_printable(f"{run.name}: {line}") for run in runs for line in run.missing]
    for title, columns, rows in make_tables(runs):
        split = [[_printable(cell) for cell in row] for row in (columns, *rows)]
        if len(columns) > 2 and not columns[0]:
            split = [line for row in split for line in _wrap(row)]
        widths = [max(map(len, column)) for column in zip(*split, strict=True)]
        lines += ["", title, "-" * len(title)]
        for row in split:
            lines.append("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    return "\n".join(lines).strip()


def _printable(text):
    """Returns a text without what would steer the terminal or break its line."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def _wrap(row):
    """Returns the lines of a row, as tuples of cells, so that the runs of a table stay beside each other."""
    cells = [textwrap.wrap(cell, _CELL, break_long_words=False) or [""] for cell in row]
    return list(itertools.zip_longest(*cells, fillvalue=""))


def metrics_of(lines):
    """Returns the names of losses and metrics in lines of steps and epochs, without `val_`, losses first."""
    found = {key for line in lines if "event" not in line for key in line if number(line, key) is not None}
    return sorted({key.removeprefix("val_") for key in found} - _OTHER, key=lambda name: ("loss" not in name, name))


def state(run):
    """Returns how a run stands, in words."""
    last = next((line for line in reversed(run.lines) if line.get("event") in ("start", "end")), {})
    if last.get("event") == "end":
        return ": ".join(str(last[key]) for key in ("reason", "cause") if key in last)
    ended, began = number(run.summary, "steps"), number(last, "step")
    if None not in (ended, began) and began < ended and (run.last("step") or 0) <= ended:
        # It was killed before the line of its end, and the start after that had only the results to write.
        return "finished" if run.summary.get("finished") else "stopped"
    if last:
        return "going on, or killed: no line says that it ended"
    return "finished" if run.summary else "unknown"


def _beside(title, runs, found):
    """Returns a `Table` with a column for each run, from label → text of each."""
    labels = dict.fromkeys(label for each in found for label in each)
    rows = [(label, *(each.get(label, "–") for each in found)) for label in labels]
    return Table(title, ("", *(run.name for run in runs)), rows)


def _figures(run):
    """Returns label → text of the figures that are known of a run."""
    starts = [line for line in run.lines if line.get("event") == "start"] or [{}]
    final = _part(run.summary, "metrics", dict) or {name: run.last(name) for name in metrics_of(run.lines)}
    workers = [worker for worker in _part(run.summary, "workers", list) if isinstance(worker, dict)]
    own = [_plain(number(worker, "own_seconds"), 1e3) or "–" for worker in workers]
    rate = number(run.summary, "examples_per_second") or run.last("examples_per_second")
    replicas = number(starts[-1], "replicas") or number(run.summary, "replicas")
    failures = run.account.failures
    lost = sum(failure.repeated + failure.restart for failure in failures)
    last = run.last("time")
    found = {
        "steps": _plain(number(run.summary, "steps") or run.last("step")),
        "epochs": _plain(run.last("epoch")),
        **{name: _plain(number(final, name)) for name in final},
        "learning rate": _plain(run.last("learning_rate")),
        "rows per second": _plain(rate),
        "… of a replica": _plain(rate / replicas) if rate and replicas else None,
        "ms a step": _plain(_of_run(run, workers, "step_seconds", statistics.median), 1e3),
        "… own work of each worker": ", ".join(own),
        "… waiting for input": _percent(_of_run(run, workers, "input_share", max)),
        "exchange": _exchange(run),
        "strategy": run.summary.get("strategy") or run.config.get("strategy"),
        "workers": _plain(number(starts[-1], "workers") or len(workers) or None),
        "replicas": _plain(replicas),
        "goodput": _percent(run.account.goodput),
        "restarts": f"{len(failures)}, {_duration(lost)} lost" if failures else None,
        "last line": last and _clock(last),
        "versions": ", ".join(f"{name} {text}" for name, text in _part(run.summary, "versions", dict).items()),
        "weights_sha256": str(run.summary.get("weights_sha256", ""))[:12],
    }
    return {label: str(text) for label, text in found.items() if text}


def _of_run(run, workers, key, combine):
    """Returns what the summary has of the whole run, over its workers; while it goes on, what its last epoch has."""
    known = [value for worker in workers if (value := number(worker, key)) is not None]
    return combine(known) if known else run.last(key)


def _part(record, key, kind):
    """Returns what a record has under a key, or an empty `kind` in place of anything else."""
    return record[key] if isinstance(record.get(key), kind) else kind()


def _exchange(run):
    kinds = _part(run.exchange, "found", list)
    factors = sum(isinstance(kind, dict) and kind.get("by_factors") is True for kind in kinds)
    found = f"factors for {factors} of {len(kinds)} kinds of weights, {run.exchange.get('how')}" if kinds else None
    return ": ".join(str(part) for part in (run.config.get("exchange"), found) if part)


def _share(account, kind):
    return f"{_duration(account.seconds[kind])}, {_percent(account.seconds[kind] / (account.wall or 1.0))}"


def _restarts(run):
    """Yields a row for each restart; without times, if only the summary knows it."""
    for place, failure in enumerate(run.account.failures, 1):
        steps = (f"{failure.reached:.0f}", f"{failure.resumed:.0f}")
        lost = map(_duration, (failure.repeated, failure.restart, failure.repeated + failure.restart))
        yield run.name, str(place), _clock(failure.time), failure.cause, *steps, *lost
    known = [] if run.account.pieces else _part(run.summary, "restarts", list)
    for place, item in enumerate(known, 1):
        yield run.name, str(place), "–", str(item.get("cause") if isinstance(item, dict) else item), *["–"] * 5


def _differences(runs):
    """Returns of each run the options that are not the same in all configs; the folder of a run is its own."""
    texts = [dict(_flatten(run.config)) for run in runs]
    known = [each for each in texts if each]
    return [
        {name: text for name, text in each.items() if any(other.get(name) != text for other in known)} for each in texts
    ]


def _flatten(config, prefix=""):
    """Yields (name, text) of each value, also of the mappings within."""
    for name, value in config.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        elif name != "run_dir":
            yield prefix + name, json.dumps(value)


def _duration(seconds):
    minutes, rest = divmod(round(seconds), 60)
    return f"{seconds:.1f} s" if seconds < 600 else f"{minutes // 60}:{minutes % 60:02}:{rest:02} h"


def _plain(value, times=1):
    if value is None:
        return None
    value *= times
    return f"{value:,.0f}" if abs(value) < 1e15 and (value >= 1e3 or value == round(value)) else f"{value:.4g}"


def _percent(share):
    return None if share is None else f"{100 * share:.1f} %"


def _clock(time):
    # Beyond this a damaged number has no date.
    return f"{datetime.datetime.fromtimestamp(time).astimezone():%Y-%m-%d %H:%M:%S}" if 0 < time < 1e11 else "–"
