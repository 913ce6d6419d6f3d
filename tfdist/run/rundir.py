"""A run's folder on disk: its paths, and writes that leave no half-written file after a kill."""

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import pathlib
import re
import shutil
import socket
from collections.abc import Collection, Iterator, Mapping
from typing import IO, Any, TypedDict

from tfdist.process.errors import MissingFileError, TfdistError, UsageError

# The launcher sets it: the file in which it records its attempts.
RESTARTS = "TFDIST_RESTARTS_FILE"


class FolderNotEmptyError(TfdistError, FileExistsError):
    """A run's folder is not empty, but must be."""


class NotAFolderError(TfdistError, NotADirectoryError):
    """A run's folder is a file."""


class LineError(TfdistError, OSError):
    """A line could not be appended to a file."""


@dataclasses.dataclass(frozen=True)
class RunDir:
    """The folder of a run and the paths in it."""

    path: pathlib.Path

    @property
    def config(self) -> pathlib.Path:
        """The `RunConfig` as JSON."""
        return self.path / "config.json"

    @property
    def exchange(self) -> pathlib.Path:
        """How workers exchange gradients, and the measurements behind that choice."""
        return self.path / "exchange.json"

    @property
    def metrics(self) -> pathlib.Path:
        """The metrics of each epoch, one JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def summary(self) -> pathlib.Path:
        """The result of the run; the file exists once the run has ended."""
        return self.path / "summary.json"

    @property
    def model(self) -> pathlib.Path:
        """The trained model, for `keras.saving.load_model`."""
        return self.path / "model.keras"

    @property
    def checkpoints(self) -> pathlib.Path:
        """The folder of the checkpoints, with one sub-folder each."""
        return self.path / "checkpoints"

    @property
    def best(self) -> pathlib.Path:
        """The step of the best checkpoint so far, and the measure that decided."""
        return self.path / "best.json"

    @property
    def tensorboard(self) -> pathlib.Path:
        """The folder of TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def predictions(self) -> pathlib.Path:
        """The folder of the pictures of predictions, one an epoch."""
        return self.path / "predictions"

    @property
    def logs(self) -> pathlib.Path:
        """The folder of the launcher's logs, which exists before the run begins."""
        return self.path / "logs"

    @property
    def lock(self) -> pathlib.Path:
        """The lock file, which names the process that trains in the folder."""
        return self.path / ".lock"

    def checkpoint(self, step: int) -> pathlib.Path:
        """Returns the folder of the checkpoint at a step."""
        return self.checkpoints / f"step-{step:08d}"

    def checkpoint_steps(self) -> list[int]:
        """Lists the steps that have a checkpoint, oldest first."""
        if not self.checkpoints.is_dir():
            return []
        matches = (re.fullmatch(r"step-(\d{8,})", item.name) for item in self.checkpoints.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def remove_old_checkpoints(self, keep: int, spare: Collection[int] = ()) -> None:
        """Removes all checkpoints except the newest `keep` and those of the steps in `spare`."""
        for step in self.checkpoint_steps()[: -keep or None]:
            if step not in spare:
                self.remove_checkpoint(step)

    def remove_checkpoint(self, step: int) -> None:
        """Removes a checkpoint in such a way that a kill leaves no half of it under its name."""
        aside = _aside(self.checkpoint(step), "removed")
        _remove(aside)
        os.replace(self.checkpoint(step), aside)
        _remove(aside)

    def clean_up(self) -> None:
        """Restores or removes what a kill has left among the checkpoints; only the chief calls it."""
        if not self.checkpoints.is_dir():
            return
        for item in list(self.checkpoints.iterdir()):
            if match := re.fullmatch(r"\.(step-\d{8,})\.(partial|old|removed)", item.name):
                if match[2] == "old":
                    _put_back(item, self.checkpoints / match[1])
                _remove(item)


def next_free(parent: str | os.PathLike[str], name: str) -> RunDir:
    """Returns the `RunDir` parent/name-<n>, with n one above the greatest number that exists."""
    numbers = [
        int(match[1])
        for item in (pathlib.Path(parent).iterdir() if pathlib.Path(parent).is_dir() else ())
        if (match := re.fullmatch(re.escape(name) + r"-(\d+)", item.name))
    ]
    return RunDir(pathlib.Path(parent) / f"{name}-{max(numbers, default=0) + 1}")


def find_resume_step(run_dir: RunDir, resume: str) -> int | None:
    """Decides from which checkpoint a run resumes.

    Args:
        run_dir: a `RunDir`.
        resume: "auto", "never" or "must".

    Returns:
        The newest checkpoint's step, or None for a fresh start.

    Raises:
        FileExistsError: "never", but the folder is not empty.
        FileNotFoundError: "must", but there is no checkpoint.
        NotADirectoryError: the path is a file.
    """
    if run_dir.path.exists() and not run_dir.path.is_dir():
        raise NotAFolderError(f"run_dir {run_dir.path} is a file. Give a folder.")
    steps = run_dir.checkpoint_steps()
    if resume == "never" and run_dir.path.is_dir() and set(run_dir.path.iterdir()) - {run_dir.logs, run_dir.lock}:
        raise FolderNotEmptyError(
            f"run_dir {run_dir.path} is not empty, but resume is 'never'. Use an empty folder, or resume='auto'."
        )
    if resume == "must" and not steps:
        raise MissingFileError(
            f"run_dir {run_dir.path} has no checkpoint, but resume is 'must'. Check the folder, or use resume='auto'."
        )
    return steps[-1] if steps else None


def make_folder(path: pathlib.Path) -> None:
    """Makes a run's folder, if it does not exist.

    Raises:
        ValueError: the folder cannot be made; the message says why and what to do.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"run_dir {path} cannot be made ({error.strerror}). Give a folder that you may write."
        ) from error


@contextlib.contextmanager
def locked(run_dir: RunDir) -> Iterator[None]:
    """Locks a run's folder against training by other processes; the lock ends with the process, even by a kill.

    Raises:
        ValueError: another process trains in the folder, and the message names it; or the folder cannot be written.
    """
    make_folder(run_dir.path)
    with _open_lock(run_dir) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UsageError(
                f"run_dir {run_dir.path}: another process trains in it ({file.read().strip() or 'unknown'}). Wait for "
                "it, end it, or use another folder."
            ) from None
        except OSError:
            # Some file systems have no locks.
            pass
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def _open_lock(run_dir: RunDir) -> IO[str]:
    try:
        return open(run_dir.lock, "a+")
    except OSError as error:
        raise UsageError(
            f"run_dir {run_dir.path} cannot be written ({error.strerror}). Give a folder that you may write, or change "
            "the permissions of this one."
        ) from error


def finished_summary(run_dir: RunDir, steps: int) -> dict[str, Any] | None:
    """Returns the summary of a run that has done at least `steps` steps, else None."""
    if not run_dir.summary.is_file():
        return None
    summary = read_json(run_dir.summary)
    done = summary.get("steps") if isinstance(summary, dict) else None
    return summary if isinstance(done, int) and done >= steps else None


class Restart(TypedDict):
    """The reason of a restart: the kind of the attempt's end, its cause in words, the number of its workers.

    `failed` is the time in Unix seconds at which the launcher saw the failure; None where it recorded none.
    """

    kind: str
    cause: str
    workers: int
    failed: float | None


def read_restarts(environ: Mapping[str, str]) -> list[Restart]:
    """Returns the reasons of the launcher's restarts, oldest first.

    Args:
        environ: the environment variables, one of which names the launcher's record.
    """
    record = environ.get(RESTARTS)
    if not record or not os.path.isfile(record):
        return []
    attempts = json.loads(pathlib.Path(record).read_text())
    return [
        Restart(kind=attempt["kind"], cause=attempt["cause"], workers=attempt["workers"], failed=attempt.get("failed"))
        for attempt in attempts
    ]


@contextlib.contextmanager
def written_aside(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yields a temporary path that replaces `path` once it is completely on the disk; both are a file or a folder.

    The remains of an earlier kill are removed first. A folder cannot be replaced in one move, so the old one keeps
    another name until the new one is in place.
    """
    path = pathlib.Path(path)
    aside, old = _aside(path, "partial"), _aside(path, "old")
    _put_back(old, path)
    _remove(old)
    _remove(aside)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield aside
        _make_durable(aside)
        if aside.is_dir() and path.exists():
            os.replace(path, old)
        os.replace(aside, path)
        _flush(path.parent)
    finally:
        # A failure of this cleanup must not hide the first error.
        with contextlib.suppress(OSError):
            _put_back(old, path)
            _remove(old)
            _remove(aside)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes a JSON file completely or not at all."""
    with written_aside(path) as aside:
        aside.write_text(json.dumps(value, indent=2) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads a JSON file.

    Raises:
        ValueError: the file is not JSON.
    """
    try:
        return json.loads(pathlib.Path(path).read_text())
    # Bytes that are no text raise another ValueError than text that is no JSON.
    except ValueError as error:
        raise UsageError(f"{path}: not JSON ({error}). Delete it, or restore the file.") from None


def append_line(path: pathlib.Path, value: Mapping[str, Any]) -> None:
    """Appends one JSON object as a line, also after half a line, which a kill or a full disk has left.

    Raises:
        OSError: the line cannot be written; the message says why and what to do.
    """
    line = json.dumps(value).encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line)
    except OSError as error:
        raise LineError(
            f"{path} cannot be written ({error.strerror}). Free some space, or make it a file that you may write, and "
            "go on with the same run_dir."
        ) from error


def _aside(path: pathlib.Path, kind: str) -> pathlib.Path:
    return path.with_name(f".{path.stem}.{kind}{path.suffix}")


def _put_back(old: pathlib.Path, path: pathlib.Path) -> None:
    """Moves a folder back to its path, if its successor is missing."""
    if old.exists() and not path.exists():
        os.replace(old, path)


def _make_durable(path: pathlib.Path) -> None:
    """Waits until a file, or everything in a folder, is on the disk."""
    if path.is_dir():
        for item in path.iterdir():
            _make_durable(item)
    _flush(path)


def _flush(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems cannot sync a folder.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _remove(path: pathlib.Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
