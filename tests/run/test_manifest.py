"""A manifest shows, without TensorFlow, whether a checkpoint is as it was written."""

import json

import pytest

from tfdist.run import manifest
from tfdist.run.manifest import DamagedError, FolderWriter, FormatError
from tfdist.run.rundir import RunDir

FILES = {"a.bin": b"\0\1\2" * 100, "b.json": b'{\n  "x": 1\n}\n'}


def write(folder, step=1):
    folder.mkdir(parents=True)
    writer = FolderWriter(folder)
    with writer.file("a.bin") as file:
        assert file.write(FILES["a.bin"][:10]) == 10
        file.write(memoryview(FILES["a.bin"][10:]))
        file.flush()
    writer.write_json("b.json", {"x": 1})
    manifest.write_manifest(folder, {"step": step, "value": [0.1, None, "ü"], "files": writer.files})


def reason(folder):
    with pytest.raises(DamagedError) as error:
        manifest.read_whole(folder)
    return str(error.value)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "one")
    return tmp_path / "one"


def test_what_was_written_is_whole(folder):
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    content = manifest.read_whole(folder)
    assert (content["format"], content["step"], content["value"]) == (manifest.FORMAT, 1, [0.1, None, "ü"])
    assert [described["bytes"] for described in content["files"].values()] == [300, 13]
    # The manifest is plain JSON for other programs.
    assert json.loads((folder / manifest.NAME).read_text())["manifest_sha256"]


@pytest.mark.parametrize("name", [*FILES, manifest.NAME])
def test_promise_29_every_flipped_byte_is_found(folder, name):
    whole = (folder / name).read_bytes()
    for position in range(0, len(whole), 1 if len(whole) < 400 else 7):
        for bit in (1, 0x20, 0x80):
            content = bytearray(whole)
            content[position] ^= bit
            (folder / name).write_bytes(content)
            assert reason(folder).startswith(f"{name} ")


@pytest.mark.parametrize("name", [*FILES, manifest.NAME])
def test_promise_29_every_cut_is_found(folder, name):
    whole = (folder / name).read_bytes()
    for size in (*range(0, len(whole), 9), len(whole) - 1):
        (folder / name).write_bytes(whole[:size])
        assert reason(folder).startswith(f"{name} ")
    (folder / name).write_bytes(whole + b" ")
    assert reason(folder).startswith(f"{name} ")
    (folder / name).unlink()
    assert reason(folder) == f"{name} is missing"
    (folder / name).mkdir()
    assert reason(folder).startswith(f"{name} ")


def test_the_message_names_the_damage(folder):
    file = folder / "a.bin"
    file.write_bytes(FILES["a.bin"][:7])
    assert reason(folder) == "a.bin has 7 bytes, and 300 were written"
    file.write_bytes(bytes(300))
    assert reason(folder) == "a.bin does not match its checksum"
    text = (folder / manifest.NAME).read_text()
    (folder / manifest.NAME).write_text(text.replace("0.1", "0.2"))
    assert reason(folder) == "manifest.json does not match its own checksum"
    for other in ("", "[]", text[:-5]):
        (folder / manifest.NAME).write_text(other)
        assert reason(folder) == "manifest.json is not what was written: it is not JSON"


def test_another_checkpoints_file_is_found(tmp_path, folder):
    write(tmp_path / "two", step=2)
    (tmp_path / "two" / "a.bin").write_bytes(FILES["a.bin"][::-1])
    (tmp_path / "two" / "a.bin").replace(folder / "a.bin")
    assert reason(folder) == "a.bin does not match its checksum"


def test_a_later_format_is_not_called_damaged(folder, monkeypatch):
    monkeypatch.setattr(manifest, "FORMAT", 0)
    with pytest.raises(FormatError) as error:
        manifest.read_whole(folder)
    assert str(error.value) == "its format is 1, and this tfdist knows no later one than 0. Use a later tfdist."


def test_all_checkpoints_of_a_run_are_inspected(tmp_path):
    run = RunDir(tmp_path)
    assert manifest.inspect(run) == []
    for step in (1, 2, 3):
        write(run.checkpoint(step), step)
    (run.checkpoint(2) / "b.json").unlink()
    (run.checkpoint(3) / manifest.NAME).unlink()
    found = manifest.inspect(run)
    assert [(step, problem) for step, problem, _ in found] == [
        (1, None),
        (2, "b.json is missing"),
        (3, "manifest.json is missing"),
    ]
    assert [content and content["step"] for _, _, content in found] == [1, 2, None]


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"step": 4}'])
def test_the_best_step_is_returned_where_it_is_known(tmp_path, text):
    run = RunDir(tmp_path)
    if text is not None:
        run.best.write_text(text)
    assert manifest.best_step(run) == (4 if text and "step" in text else None)
