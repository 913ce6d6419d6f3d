"""Writes and restores checkpoints, which hold everything that a run needs to go on.

The chief writes a checkpoint aside, with checksums, and then renames it.
"""

import dataclasses
import hashlib
import json
import math
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfdist.checkpoints.contents import assign, build_optimizers, built_for, contents_of, describe
from tfdist.checkpoints.contents import variables_of as variables_of  # noqa: PLC0414 (a name of this module too)
from tfdist.process.errors import TfdistError
from tfdist.process.faults import Faults
from tfdist.process.log import say, warn
from tfdist.process.same_run import changes, narrowed
from tfdist.run import manifest, rundir
from tfdist.run.manifest import DamagedError, FolderWriter, FormatError
from tfdist.strategy import hardware

VARIABLES, STATE, CONFIG = "variables.npz", "state.json", "config.json"
ON_PURPOSE = "If you mean the change, use resume_with_changes."
# How many differences a message names.
_MOST = 8


class CheckpointError(TfdistError, ValueError):
    """A checkpoint is damaged, or belongs to another model or other data."""


class SaveError(TfdistError, OSError):
    """A checkpoint could not be written; earlier ones are unchanged."""


@dataclasses.dataclass(frozen=True)
class Saved:
    """What a checkpoint holds besides the variables of the model and its optimizer.

    Attributes:
        state: JSON types.
        arrays: name → array, for what JSON cannot hold.
        about: what the run was: {"data": …, "run": …, "replicas": …}, each JSON types. Other data and another
            run are refused.
    """

    state: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def save(run_dir, model, step, saved=None, *, faults=None):
    """Writes the checkpoint of a step; only the chief calls it.

    Args:
        run_dir: a `RunDir`.
        model: a compiled, built `keras.Model`.
        step: steps done since the run began.
        saved: a `Saved`: what else to keep.
        faults: the `Faults` to inject, or None.

    Raises:
        SaveError: the disk is full, or nothing can be written there.
    """
    folder, faults, saved = run_dir.checkpoint(step), faults or Faults(), saved or Saved()
    faults.inject("save_begin", step, folder)
    try:
        with rundir.written_aside(folder) as aside:
            aside.mkdir()
            _write(aside, run_dir, model, step, saved, faults)
    except OSError as error:
        raise SaveError(
            f"checkpoint {folder} could not be written ({error.strerror or error}). Earlier checkpoints are unchanged. "
            "Free some space, or make the folder writable, and go on with the same run_dir."
        ) from error
    faults.inject("save_end", step, folder)


def _write(aside, run_dir, model, step, saved, faults):
    writer = FolderWriter(aside)
    contents = contents_of(model)
    arrays = {str(index): variable for index, variable in enumerate(contents.variables.values())}
    with writer.file(VARIABLES) as file:
        _write_arrays(file, arrays | dict(saved.arrays))
    faults.inject("save_files", step, aside)
    writer.write_json(STATE, saved.state)
    if run_dir.config.is_file():
        with writer.file(CONFIG) as file:
            file.write(run_dir.config.read_bytes())
    content = {
        "step": step,
        **_plain(saved.about),
        "numerics": hardware.numerics(),
        "variables": list(map(describe, contents.variables, contents.variables.values())),
        "of_model": len(model.variables),
        "optimizers": built_for(contents),
        "files": writer.files,
    }
    manifest.write_manifest(aside, content)
    faults.inject("save_rename", step, aside)


def _write_arrays(file, arrays):
    """Writes what `np.savez` writes, one array in memory at a time and without seeking back."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asarray(values), allow_pickle=False)


def newest_whole(run_dir):
    """Finds the newest whole checkpoint, and warns about newer ones that are damaged.

    Returns:
        (its step or None where there is no checkpoint at all, the steps of the newer, damaged ones).

    Raises:
        CheckpointError: there are checkpoints, but none is whole; or a later tfdist wrote the newest.
    """
    damaged = {}
    for step in reversed(run_dir.checkpoint_steps()):
        problem = _problem(run_dir.checkpoint(step))
        if problem is None:
            for other, what in damaged.items():
                warn(f"checkpoint {run_dir.checkpoint(other)} is damaged: {what}. Going on from step {step} instead.")
            return step, tuple(damaged)
        damaged[step] = problem
    if damaged:
        each = "; ".join(f"{run_dir.checkpoint(step).name}: {what}" for step, what in damaged.items())
        raise CheckpointError(
            f"checkpoints {run_dir.checkpoints}: none of {len(damaged)} is whole ({each}). Restore one from a copy, or "
            "delete the folder to start again."
        )
    return None, ()


def _problem(folder):
    """Returns what is wrong with a checkpoint; None where it is whole."""
    try:
        manifest.read_whole(folder)
    except DamagedError as error:
        return str(error)
    except FormatError as error:
        raise CheckpointError(f"checkpoint {folder}: {error}") from None
    return None


def restore(run_dir, model, step, about=None, *, with_changes=False):
    """Reads the checkpoint of a step into the model and its optimizer; every worker calls it.

    Args:
        run_dir: a `RunDir`.
        model: a compiled, built `keras.Model`.
        step: the step of a checkpoint.
        about: what the run is now, as in `Saved`; None to compare no data and no run.
        with_changes: whether other data and another run are only logged.

    Returns:
        The `Saved` that was kept with the variables.

    Raises:
        CheckpointError: a file is missing or damaged, or the model, the optimizer or the data differ; the message names
            the part.
    """
    folder = run_dir.checkpoint(step)
    try:
        content = manifest.read_whole(folder)
    except (DamagedError, FormatError) as error:
        raise CheckpointError(f"checkpoint {folder}: {error}. Every worker must see the same, whole folder.") from None
    build_optimizers(model, content.get("optimizers", {}))
    contents = contents_of(model)
    present = list(map(describe, contents.variables, contents.variables.values()))
    if "optimizers" not in content and contents.others:
        present = present[: -len(contents.others)]
        warn(
            f"checkpoint {folder}: an earlier tfdist wrote it, which saved one optimizer and no more. Not restored: "
            f"{', '.join(contents.others)}. They go on from what they are now."
        )
    if difference := _first_difference(content["variables"], present):
        raise CheckpointError(
            f"checkpoint {folder}: {difference} Use the model and the optimizer that wrote it, or another run_dir."
        )
    state = json.loads((folder / STATE).read_text())
    _compare(folder, content, _plain(about or {}), state, with_changes=with_changes)
    with np.load(folder / VARIABLES) as values:
        for index, variable in enumerate(list(contents.variables.values())[: len(present)]):
            assign(variable, values[str(index)])
        arrays = {name: values[name] for name in values.files if not name.isdecimal()}
    say(f"going on from {folder}.")
    return Saved(state, arrays, {name: content[name] for name in content.keys() & {"data", "run", "replicas"}})


def _compare(folder, content, about, state, *, with_changes):
    """Refuses another run or other data, unless changes are meant; logs what else differs."""
    found = []
    for kind, differ in (("data", "the data differ in"), ("run", "the run differs in")):
        for changed in changes(content.get(kind, {}), about.get(kind, {})):
            # Otherwise a callback has changed it since, and the script goes on with that.
            if changed.name != "learning_rate" or not _is_close(changed.here, state.get("learning_rate")):
                found += [f"{differ} {_described(one)}" for one in narrowed(changed)]
    if found:
        more = f"; and {len(found) - _MOST} more" if len(found) > _MOST else ""
        text = f"checkpoint {folder}: {'; '.join(found[:_MOST])}{more}."
        if not with_changes:
            raise CheckpointError(f"{text} Use what wrote it, or another run_dir. {ON_PURPOSE}")
        warn(f"{text} Going on with what is new, because of resume_with_changes.")
    if others := changes(content["numerics"], hardware.numerics()):
        pairs = ", ".join(f"{name} was {there} and is now {here}" for name, there, here in others)
        warn(f"checkpoint {folder}: {pairs}. The weights may differ from an uninterrupted run's by rounding.")


def _is_close(one, other):
    return isinstance(one, float) and isinstance(other, float) and math.isclose(one, other, rel_tol=1e-6)


def _described(changed):
    return f"{changed.name}: {_shown(changed.there)} in the checkpoint, {_shown(changed.here)} now"


def _shown(value):
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def weights_sha256(model):
    """Returns the SHA-256 of the bytes of `model.weights`, in order, by which two runs can be compared."""
    digest = hashlib.sha256()
    for weight in model.weights:
        digest.update(np.ascontiguousarray(np.asarray(weight)).tobytes())
    return digest.hexdigest()


def _plain(value):
    """Returns a value as it comes back from JSON, with tuples as lists."""
    return json.loads(json.dumps(value))


def _first_difference(stored, present):
    """Returns a sentence about the first variable that differs; None where all are the same."""
    for there, here in zip(stored, present, strict=False):
        if _identity(there) != _identity(here):
            return f"it holds {_text(there)} where this run has {_text(here)}."
    if len(stored) != len(present):
        more, has_it = (stored, "the checkpoint") if len(stored) > len(present) else (present, "this run")
        return (
            f"it holds {len(stored)} variables, but the model, its optimizers and what else can be reached have "
            f"{len(present)}; only {has_it} has {_text(more[min(len(stored), len(present))])}."
        )
    return None


def _identity(item):
    # Keras generates names: where the first model of a process has a "dense", the next has a "dense_1"; and one version
    # calls an optimizer "SGD" or "rmsprop", another "sgd" or "rm_sprop".
    name = re.sub(r"_\d+(?![^/_])", "", item["path"]).replace("_", "").lower()
    return name, item["shape"], item["dtype"]


def _text(item):
    return f"{item['path']} {item['dtype']}{tuple(item['shape'])}"
