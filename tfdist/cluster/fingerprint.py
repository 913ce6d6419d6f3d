"""The fingerprint that must be the same on every worker (versions, code, config, devices), and its differences."""

import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tfdist.cluster.gpus import count_gpus
from tfdist.process.versions import read_versions

# Workers may keep the data in different folders.
MAY_DIFFER = ("data_dir", "download")


def fingerprint(
    config: Mapping[str, Any] | None = None,
    files: Iterable[str | os.PathLike[str]] = (),
    environ: Mapping[str, str] = os.environ,
) -> dict[str, Any]:
    """Returns the fingerprint of this worker, the `hello` of `tfdist.cluster.rendezvous.meet`.

    Args:
        config: the run as JSON types, `RunConfig.to_dict()`; fields that may differ between workers are left out.
        files: the user's own files, script and recipe.
        environ: the environment variables, including those of the cluster (`Cluster.environment`).

    Returns:
        {"versions": {…}, "code": {"tfdist": sha, file name: sha, …}, "config": {…}, "devices": number of GPUs}.
    """
    return {
        "versions": read_versions(),
        "code": {"tfdist": hash_package(pathlib.Path(__file__).parents[1]), **hash_files(files)},
        "config": {key: value for key, value in (config or {}).items() if key not in MAY_DIFFER},
        "devices": count_gpus(environ),
    }


def hash_package(folder: pathlib.Path) -> str:
    """Returns one digest over the names and contents of all Python files in a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def hash_files(files: Iterable[str | os.PathLike[str]]) -> dict[str, str]:
    """Returns a digest for each file by its name, because workers may keep it in different folders."""
    digests: dict[str, str] = {}
    for path in map(pathlib.Path, files):
        key = path.name if path.name not in digests else str(path)
        digests[key] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return digests


def differences(hellos: Sequence[Mapping[str, Any]]) -> list[str]:
    """Finds where the workers' hellos differ.

    Args:
        hellos: one for each worker, by rank; of JSON types.

    Returns:
        One text for each difference, such as "config.global_batch: 64 on worker 0, 128 on worker 1".
    """
    flat = [dict(_flatten(hello)) for hello in hellos]
    paths = dict.fromkeys(path for worker in flat for path in worker)
    found = []
    for path in paths:
        groups: dict[str, list[int]] = {}
        for rank, worker in enumerate(flat):
            value = json.dumps(worker[path], ensure_ascii=False, sort_keys=True) if path in worker else "nothing"
            groups.setdefault(value, []).append(rank)
        if len(groups) > 1:
            parts = [f"{_shorten(value)} on {_name(ranks)}" for value, ranks in groups.items()]
            found.append(f"{path}: {', '.join(parts)}")
    return found


def first_difference(hellos: Sequence[Mapping[str, Any]]) -> str | None:
    """Returns the first of `differences`, or None where all are equal."""
    return next(iter(differences(hellos)), None)


def _flatten(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yields (path, value) of all values that are not dicts; an empty dict counts as a value."""
    if not isinstance(value, Mapping) or not value:
        yield path, value
        return
    for key, item in value.items():
        yield from _flatten(item, f"{path}.{key}" if path else str(key))


def _shorten(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:80]}…"


def _name(ranks: Sequence[int]) -> str:
    if len(ranks) == 1:
        return f"worker {ranks[0]}"
    shown = ", ".join(map(str, ranks[:5]))
    return f"workers {shown}" + (f" and {len(ranks) - 5} more" if len(ranks) > 5 else "")
