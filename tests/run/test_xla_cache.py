"""XLA's compiled programs are kept with the run, read by a later start, and not read where they are torn."""

import os
import pathlib

import pytest
from support.processes import run_python

from tfdist.run import xla_cache

FLAG = "--tf_xla_persistent_cache_directory"


def entries(folder):
    """Returns name → time of writing of a folder's entries, and checks that each has a digest beside it."""
    found = {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.pb")}
    assert {path.name for path in folder.rglob("*.pb.json")} == {f"{name}.json" for name in found}
    return found


@pytest.fixture
def train(tmp_path):
    """Runs the command up to a step, in one folder; returns its entries."""

    def run(steps):
        flags = ("--global_batch=64", "--model=mlp", "--jit_compile=true", f"--run_dir={tmp_path}/run")
        ended = run_python("-m", "tfdist.train", f"--steps={steps}", *flags, deadline_seconds=180)
        assert ended.code == 0, ended.err
        return entries(tmp_path / "run" / "logs" / "xla")

    return run


@pytest.mark.slow
def test_a_run_that_goes_on_compiles_nothing_again_but_what_is_torn(train, tmp_path):
    # 23 steps an epoch, the last one smaller: two programs.
    first = train(30)
    assert len(first) == 2
    assert train(60) == first
    torn, sound = sorted(first)
    (path,) = (tmp_path / "run").rglob(torn)
    os.truncate(path, 1000)
    again = train(90)
    assert again[sound] == first[sound]
    assert again[torn] > first[torn]


def test_an_entry_without_a_digest_is_deleted(tmp_path):
    folder = xla_cache.own_folder(xla_cache.variables(tmp_path, {}))
    folder.mkdir(parents=True)
    for name in ("sealed.pb", "changed.pb"):
        (folder / name).write_bytes(b"program")
    xla_cache.seal(folder)
    (folder / "changed.pb").write_bytes(b"progrom")
    (folder / "unsealed.pb").write_bytes(b"pro")
    xla_cache.variables(tmp_path, {})
    assert sorted(path.name for path in folder.iterdir()) == ["sealed.pb", "sealed.pb.json"]


def test_entries_that_cannot_be_deleted_are_not_read(tmp_path, monkeypatch):
    folder = xla_cache.own_folder(xla_cache.variables(tmp_path, {}))
    folder.mkdir(parents=True)
    (folder / "unsealed.pb").write_bytes(b"pro")

    def refuse(path, missing_ok=False):
        raise PermissionError(f"{path}: read-only")

    monkeypatch.setattr(pathlib.Path, "unlink", refuse)
    assert xla_cache.variables(tmp_path, {}) == {}


def test_the_users_own_folder_is_left_alone(tmp_path):
    assert xla_cache.variables(tmp_path, {"TF_XLA_FLAGS": f"{FLAG}=/mine"}) == {}
    assert xla_cache.own_folder({}) is None


def test_other_flags_of_the_user_stay(tmp_path):
    given = xla_cache.variables(tmp_path, {"TF_XLA_FLAGS": "--tf_xla_clustering_debug"})
    assert given["TF_XLA_FLAGS"] == f"--tf_xla_clustering_debug {FLAG}={xla_cache.own_folder(given)}"


@pytest.mark.parametrize("space", [" ", "\t", "\n", "\u00a0"])
def test_a_folder_with_white_space_is_not_passed_to_tensorflow(tmp_path, space):
    assert xla_cache.variables(tmp_path / f"a{space}b", {}) == {}


def test_a_run_started_by_another_has_a_folder_of_its_own(tmp_path):
    first = xla_cache.variables(tmp_path / "first", {})
    assert xla_cache.variables(tmp_path / "second", first) == xla_cache.variables(tmp_path / "second", {})
