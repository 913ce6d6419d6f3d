"""The fingerprint that must be the same on every worker (versions, code, config, devices), and its differences."""

import hashlib
import os
import pathlib
from collections.abc import Iterable, Mapping
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
