"""A run's folder → a `RunRecord`: what could be read, and a line for each thing that could not."""

import dataclasses
import functools
import json
import os
import pathlib
from typing import Any

from tfdist.process.errors import MissingFileError
from tfdist.report.goodput import Account, number
from tfdist.run.rundir import RunDir


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """What the files of a run hold.

    Attributes:
        name: the run's name on the page.
        lines: the lines of metrics.jsonl, in their order.
        summary, config, exchange: the JSON files of these names; empty where there is none.
        sheets: pictures of predictions: the first, the middle one and the last.
        missing: what is not there, a sentence each.
    """

    name: str
    lines: tuple[dict[str, Any], ...]
    summary: dict[str, Any]
    config: dict[str, Any]
    exchange: dict[str, Any]
    sheets: tuple[pathlib.Path, ...]
    missing: tuple[str, ...]

    @functools.cached_property
    def account(self):
        """Where the run's wall clock went, an `Account`."""
        return Account(self.lines)

    def points(self, by, key):
        """Returns the numbers of a key as pairs (x, number), by "step" or "epoch"; where repeated, the last ones."""
        lines = [(number(line, by), number(line, key)) for line in self.lines if "event" not in line]
        return sorted({x: y for x, y in lines if None not in (x, y)}.items())

    def last(self, key):
        """Returns the last number of a key, or None."""
        return next((value for line in reversed(self.lines) if (value := number(line, key)) is not None), None)


def read_runs(folders):
    """Reads the folders of runs; returns a `RunRecord` each, named as briefly as they stay apart.

    Raises:
        FileNotFoundError: there is no such folder, or it is not that of a run.
    """
    names = [os.path.basename(os.path.abspath(folder)) for folder in folders]
    names = names if len(set(names)) == len(names) else folders
    return [
        read_run(RunDir(pathlib.Path(folder)), path_text(name)) for folder, name in zip(folders, names, strict=True)
    ]


def path_text(path):
    """Returns a path as text that can be written; the bytes of a name on the disk need not be text."""
    return os.fsencode(path).decode(errors="replace")


def read_run(run, name):
    """Reads a `RunDir`; returns a `RunRecord`."""
    if not run.path.is_dir():
        raise MissingFileError(f"{run.path}: there is no such folder. Give the folder of a run, as runs/digits_cnn-1.")
    if not any(part.exists() for part in (run.metrics, run.summary, run.config, run.checkpoints, run.logs)):
        raise MissingFileError(
            f"{run.path} is not the folder of a run: it has no metrics.jsonl, summary.json or config.json. Give the "
            "folder of a run, as runs/digits_cnn-1."
        )
    missing = []
    lines = _read_lines(run.metrics, missing)
    summary = _read_object(run.summary, missing, "It is written when a run ends.")
    config = _read_object(run.config, missing, "A run writes it when it starts.")
    # It is written only where there is something to choose.
    exchange = _read_object(run.exchange, missing, "") if run.exchange.exists() else {}
    if lines and not any(line.get("event") == "start" and number(line, "time") for line in lines):
        missing.append("metrics.jsonl has no line of a start, so it is unknown where the time went.")
    sheets = sorted(run.predictions.glob("epoch-*.png"))
    picked = sorted({0, len(sheets) // 2, len(sheets) - 1}) if sheets else []
    return RunRecord(name, lines, summary, config, exchange, tuple(sheets[i] for i in picked), tuple(missing))


def _read_text(path, missing, why):
    try:
        return path.read_text(errors="replace")
    except OSError as error:
        missing.append(f"{path.name} is not there ({os.strerror(error.errno or 0)}). {why}")
        return None


def _read_object(path, missing, why):
    text = _read_text(path, missing, why)
    value = text and _parse(text)
    if text is not None and value is None:
        missing.append(f"{path.name} is damaged or half written, and is left out.")
    return value or {}


def _read_lines(path, missing):
    text = _read_text(path, missing, "A run writes it from its start on.")
    parsed = [_parse(line) for line in (text or "").splitlines()]
    if bad := [str(place) for place, line in enumerate(parsed, 1) if line is None]:
        shown = ", ".join(bad[:5]) + ", …" * (len(bad) > 5)
        missing.append(f"metrics.jsonl: {len(bad)} of {len(parsed)} lines are damaged and left out: {shown}.")
    return tuple(line for line in parsed if line is not None)


def _parse(text):
    """Returns the JSON object of a text, or None for anything else."""
    try:
        value = json.loads(text)
        if "\\ud" in text.lower():
            # Half of a character, which JSON may name alone, can be printed nowhere.
            value = json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
