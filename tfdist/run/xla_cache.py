"""XLA's compiled programs, kept in the run's folder: a restarted worker reads them and does not compile again.

TensorFlow writes and reads the entries by itself, one file each, in the folder that its flags name when a process
begins. It does not check what it reads: a torn entry, or one of another processor, would make every later start fail.
So each kind of machine has its own folder, and each entry has a digest beside it; an entry without its digest is
deleted before TensorFlow reads it.
"""

import contextlib
import hashlib
import pathlib
import platform
from collections.abc import Mapping

from tfdist.process.versions import read_versions
from tfdist.run import rundir

_VARIABLE, _FLAG = "TF_XLA_FLAGS", "--tf_xla_persistent_cache_directory"
# The folder that tfdist has set, to distinguish it from a folder of the user.
_OWN = "TFDIST_XLA_CACHE"
_ENTRIES, _DIGEST = "*.pb", ".json"


def variables(folder: pathlib.Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment variables that make TensorFlow keep its entries; {} where the user has named a folder.

    Args:
        folder: the folder of the run's entries, of all kinds of machines.
        environ: the environment variables of the process that will compile.
    """
    own = folder.absolute() / kind_of_machine()
    # A process that has trained before passes its environment on to the processes that it starts.
    flags = environ.get(_VARIABLE, "").replace(f"{_FLAG}={environ.get(_OWN)}", "").strip()
    # TensorFlow splits its flags at white space, and has no quotes.
    if _FLAG in flags or len(str(own).split()) != 1 or str(own) != str(own).strip():
        return {}
    try:
        _delete_unsealed(own)
    except OSError:
        # Entries that cannot be deleted must not be read.
        return {}
    return {_VARIABLE: f"{flags} {_FLAG}={own}".strip(), _OWN: str(own)}


def own_folder(environ: Mapping[str, str]) -> pathlib.Path | None:
    """Returns the folder that `variables` has set, or None."""
    return pathlib.Path(environ[_OWN]) if environ.get(_OWN) else None


def kind_of_machine() -> str:
    """Returns a name for all machines on which the same compiled programs run: versions, processor, GPUs."""
    parts = [str(read_versions()), platform.machine()]
    parts += _lines("/proc/cpuinfo", ("model name", "flags", "Features", "CPU part")) or [platform.processor()]
    for path in sorted(pathlib.Path("/").glob("proc/driver/nvidia/gpus/*/information")):
        parts += _lines(path, ("Model",))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _lines(path: str | pathlib.Path, beginnings: tuple[str, ...]) -> list[str]:
    """Returns the lines of a file's first paragraph that have one of these beginnings; [] if it cannot be read."""
    try:
        lines = pathlib.Path(path).read_text().partition("\n\n")[0].splitlines()
    except OSError:
        return []
    return [line for line in lines if line.startswith(beginnings)]


def seal(folder: pathlib.Path) -> None:
    """Writes the digests of entries that have none."""
    for entry, digest in _entries(folder):
        if not digest.exists():
            # Other workers may do so at the same time, and a full disk must not end the run.
            with contextlib.suppress(OSError):
                rundir.write_json(digest, _digest_of(entry))


def _delete_unsealed(folder: pathlib.Path) -> None:
    """Deletes entries without a matching digest; XLA compiles them again."""
    for entry, digest in _entries(folder):
        try:
            whole = rundir.read_json(digest) == _digest_of(entry)
        except (OSError, ValueError):
            whole = False
        if not whole:
            entry.unlink(missing_ok=True)
            digest.unlink(missing_ok=True)


def _entries(folder: pathlib.Path) -> list[tuple[pathlib.Path, pathlib.Path]]:
    return [(entry, entry.with_name(entry.name + _DIGEST)) for entry in folder.glob(_ENTRIES)]


def _digest_of(entry: pathlib.Path) -> str:
    with entry.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
