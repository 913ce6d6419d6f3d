"""A checkpoint's manifest, with the checksum of every file: a check without TensorFlow that nothing is damaged."""

import contextlib
import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, TypedDict

from tfdist.process.errors import TfdistError
from tfdist.run import rundir
from tfdist.run.rundir import RunDir

NAME = "manifest.json"
FORMAT = 1

_OWN_DIGEST = "manifest_sha256"

# A checkpoint's step, its damage or None, and its manifest or None where it cannot be read.
Inspected = tuple[int, str | None, dict[str, Any] | None]


class DamagedError(TfdistError, ValueError):
    """A checkpoint is not as it was written; the message names the file and the damage."""


class FormatError(TfdistError, ValueError):
    """A checkpoint is whole, but a later tfdist wrote it in a format that this one does not know."""


class StoredFile(TypedDict):
    """What a manifest states about a file."""

    bytes: int
    sha256: str


class FolderWriter:
    """Writes the files of a checkpoint, and hashes each while it is written.

    Args:
        folder: an existing, empty folder.

    Attributes:
        files: name → `StoredFile` of each file that was written.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self.files: dict[str, StoredFile] = {}

    @contextlib.contextmanager
    def file(self, name: str) -> "Iterator[_Hashed]":
        """Yields an object with a method `write(bytes)` for a new file."""
        with (self._folder / name).open("wb") as file:
            hashed = _Hashed(file)
            yield hashed
        self.files[name] = {"bytes": hashed.bytes, "sha256": hashed.digest.hexdigest()}

    def write_json(self, name: str, value: Any) -> None:
        """Writes a file of JSON."""
        with self.file(name) as file:
            file.write((json.dumps(value, indent=2) + "\n").encode())


class _Hashed:
    """A file that can only be appended to, so that its digest is known as soon as it is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.bytes = 0
        self.digest = hashlib.sha256()

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Writes and hashes data; returns the number of bytes."""
        self._file.write(data)
        self.digest.update(data)
        size = memoryview(data).nbytes
        self.bytes += size
        return size

    def flush(self) -> None:
        """Passes buffered data to the system."""
        self._file.flush()


def write_manifest(folder: pathlib.Path, content: Mapping[str, Any]) -> None:
    """Writes the manifest, which ends with a checksum of itself.

    Args:
        folder: the checkpoint's folder.
        content: JSON types; "files" is `FolderWriter.files`.
    """
    content = {"format": FORMAT, **content}
    (folder / NAME).write_text(_to_text(content | {_OWN_DIGEST: _digest(content)}))


def read_manifest(folder: pathlib.Path) -> dict[str, Any]:
    """Reads a checkpoint's manifest and compares it with its own checksum.

    Raises:
        DamagedError: the manifest is missing, or not as it was written.
        FormatError: a later tfdist wrote the checkpoint.
    """
    try:
        text = (folder / NAME).read_bytes().decode()
        content: dict[str, Any] = json.loads(text)
        stated = content.pop(_OWN_DIGEST, None)
    except FileNotFoundError:
        raise DamagedError(f"{NAME} is missing") from None
    except OSError as error:
        raise DamagedError(f"{NAME} cannot be read ({error.strerror})") from None
    except (ValueError, AttributeError, TypeError):
        raise DamagedError(f"{NAME} is not what was written: it is not JSON") from None
    # The text too: a flipped byte in a space leaves the same JSON, but shows that the disk cannot be trusted.
    if stated != _digest(content) or text != _to_text(content | {_OWN_DIGEST: stated}):
        raise DamagedError(f"{NAME} does not match its own checksum")
    if content["format"] > FORMAT:
        raise FormatError(
            f"its format is {content['format']}, and this tfdist knows no later one than {FORMAT}. Use a later tfdist."
        )
    return content


def check_files(folder: pathlib.Path, manifest: Mapping[str, Any]) -> None:
    """Compares every file of a checkpoint with its manifest.

    Raises:
        DamagedError: a file is missing, shorter, longer or different; the message names the first one.
    """
    for name, expected in manifest["files"].items():
        try:
            size = (folder / name).stat().st_size
            if size != expected["bytes"]:
                raise DamagedError(f"{name} has {size} bytes, and {expected['bytes']} were written")
            with (folder / name).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            raise DamagedError(f"{name} is missing") from None
        except OSError as error:
            raise DamagedError(f"{name} cannot be read ({error.strerror})") from None
        if digest != expected["sha256"]:
            raise DamagedError(f"{name} does not match its checksum")


def read_whole(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the manifest of a checkpoint after a check of all files.

    Raises:
        DamagedError, FormatError: as `read_manifest` and `check_files`.
    """
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    return manifest


def inspect(run_dir: RunDir) -> list[Inspected]:
    """Checks every byte of every checkpoint of a run.

    Args:
        run_dir: a `RunDir`.

    Returns:
        An `Inspected` for each checkpoint, oldest first.
    """
    return [_inspect(run_dir, step) for step in run_dir.checkpoint_steps()]


def _inspect(run_dir: RunDir, step: int) -> Inspected:
    folder = run_dir.checkpoint(step)
    manifest: dict[str, Any] | None = None
    try:
        manifest = read_manifest(folder)
        check_files(folder, manifest)
    except (DamagedError, FormatError) as error:
        return step, str(error), manifest
    return step, None, manifest


def best_step(run_dir: RunDir) -> int | None:
    """Returns the step of the best checkpoint so far, or None where it is not recorded."""
    try:
        step: int = rundir.read_json(run_dir.best)["step"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return step


def _to_text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_to_text(content).encode()).hexdigest()
