"""A run on disk: the next free folder, the checkpoint to resume from, and no half-written file."""

import json
import os
import pathlib

import pytest

from tfdist.process.errors import UsageError
from tfdist.run import rundir
from tfdist.run.rundir import RunDir, written_aside


def tree(folder):
    """Maps each path below a folder to its text, None for a folder."""
    return {str(path.relative_to(folder)): path.read_text() if path.is_file() else None for path in folder.rglob("*")}


def make_checkpoints(folder, *steps):
    run = RunDir(folder)
    for step in steps:
        run.checkpoint(step).mkdir(parents=True)
    return run


def test_the_paths_of_a_run_are_the_documented_ones():
    run = RunDir(pathlib.Path("r"))
    paths = [run.config, run.metrics, run.summary, run.model, run.best, run.tensorboard, run.checkpoint(120)]
    assert [path.as_posix() for path in paths] == [
        "r/config.json",
        "r/metrics.jsonl",
        "r/summary.json",
        "r/model.keras",
        "r/best.json",
        "r/tensorboard",
        "r/checkpoints/step-00000120",
    ]


@pytest.mark.parametrize(
    ("present", "free"),
    [
        ([], "a-1"),
        (["a-1"], "a-2"),
        (["a-1", "a-3"], "a-4"),
        (["a-9", "a-10"], "a-11"),
        (["b-7", "a", "a-x", "a-1-b", "ba-5", "a-b-6"], "a-1"),
    ],
)
def test_the_next_free_folder_has_the_number_after_the_greatest(tmp_path, present, free):
    for name in present:
        (tmp_path / name).mkdir()
    assert rundir.next_free(tmp_path, "a") == RunDir(tmp_path / free)


def test_a_name_with_signs_of_a_pattern_is_taken_literally(tmp_path):
    (tmp_path / "axb-4").mkdir()
    assert rundir.next_free(tmp_path, "a.b").path.name == "a.b-1"


def test_the_first_run_needs_no_parent_and_makes_none(tmp_path):
    assert rundir.next_free(tmp_path / "runs", "a").path == tmp_path / "runs" / "a-1"
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("resume", ["auto", "never"])
@pytest.mark.parametrize("exists", [True, False])
def test_a_fresh_folder_gives_a_fresh_start(tmp_path, resume, exists):
    folder = tmp_path / "run"
    if exists:
        folder.mkdir()
    assert rundir.find_resume_step(RunDir(folder), resume) is None


@pytest.mark.parametrize("resume", ["auto", "must"])
def test_a_folder_with_checkpoints_gives_the_newest_ones_step(tmp_path, resume):
    run = make_checkpoints(tmp_path, 5, 100_000_000, 20)
    assert rundir.find_resume_step(run, resume) == 100_000_000


def test_auto_starts_afresh_in_a_folder_without_checkpoints(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert rundir.find_resume_step(RunDir(tmp_path), "auto") is None


def test_never_refuses_a_folder_with_anything_in_it(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError) as error:
        rundir.find_resume_step(RunDir(tmp_path), "never")
    assert str(error.value) == (
        f"run_dir {tmp_path} is not empty, but resume is 'never'. Use an empty folder, or resume='auto'."
    )


@pytest.mark.parametrize("exists", [True, False])
def test_must_refuses_a_folder_without_checkpoints(tmp_path, exists):
    folder = tmp_path if exists else tmp_path / "none"
    with pytest.raises(FileNotFoundError) as error:
        rundir.find_resume_step(RunDir(folder), "must")
    assert str(error.value) == (
        f"run_dir {folder} has no checkpoint, but resume is 'must'. Check the folder, or use resume='auto'."
    )


def test_never_takes_a_folder_in_which_the_launcher_has_logs(tmp_path):
    (tmp_path / "logs").mkdir()
    assert rundir.find_resume_step(RunDir(tmp_path), "never") is None


@pytest.mark.parametrize("resume", ["auto", "never", "must"])
def test_a_file_is_no_run(tmp_path, resume):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(NotADirectoryError) as error:
        rundir.find_resume_step(RunDir(file), resume)
    assert str(error.value) == f"run_dir {file} is a file. Give a folder."


def test_a_folder_that_cannot_be_written_is_one_message_with_its_cause(tmp_path):
    run = RunDir(tmp_path)
    # Tests may run as root, who may write everywhere.
    run.lock.mkdir()
    with pytest.raises(UsageError) as refused, rundir.locked(run):
        pass
    assert str(refused.value) == (
        f"run_dir {tmp_path} cannot be written (Is a directory). Give a folder that you may write, or change the "
        "permissions of this one."
    )
    assert isinstance(refused.value.__cause__, IsADirectoryError)


def test_only_whole_checkpoints_are_listed(tmp_path):
    run = make_checkpoints(tmp_path, 30, 4)
    for name in (".step-00000050.partial", "step-60", "step-00000070.old", "other"):
        (run.checkpoints / name).mkdir()
    assert run.checkpoint_steps() == [4, 30]
    assert RunDir(tmp_path / "none").checkpoint_steps() == []


@pytest.mark.parametrize(("keep", "left"), [(0, []), (1, [30]), (2, [20, 30]), (3, [3, 20, 30]), (9, [3, 20, 30])])
def test_the_newest_checkpoints_are_kept(tmp_path, keep, left):
    run = make_checkpoints(tmp_path, 20, 3, 30)
    (run.checkpoint(3) / "file").touch()
    run.remove_old_checkpoints(keep)
    assert run.checkpoint_steps() == left


def test_spared_checkpoints_stay_too(tmp_path):
    run = make_checkpoints(tmp_path, 20, 3, 30, 10)
    run.remove_old_checkpoints(1, spare={3, None})
    assert run.checkpoint_steps() == [3, 30]
    assert [path.name for path in run.checkpoints.glob(".*")] == []


def test_what_a_kill_has_left_among_the_checkpoints_is_put_back_or_removed(tmp_path):
    run = make_checkpoints(tmp_path, 30)
    run.clean_up()
    for name in (
        ".step-00000040.old",
        ".step-00000030.old",
        ".step-00000040.partial",
        ".step-00000050.removed",
        ".mine",
    ):
        (run.checkpoints / name).mkdir()
    (run.checkpoints / ".step-00000040.old" / "file").touch()
    run.clean_up()
    assert tree(run.checkpoints) == {
        "step-00000030": None,
        "step-00000040": None,
        "step-00000040/file": "",
        ".mine": None,
    }
    RunDir(tmp_path / "none").clean_up()


@pytest.mark.parametrize("when", [1, 2])
def test_promise_29_a_folder_is_never_lost_while_it_is_replaced(tmp_path, monkeypatch, when):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_text("old")
    calls, replace = [], os.replace

    def killed(*names):
        calls.append(names)
        if len(calls) >= when:
            raise KeyboardInterrupt
        replace(*names)

    # From the kill on, nothing more is done to the disk.
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        patch.setattr(rundir, "_remove", lambda path: None)
        with pytest.raises(KeyboardInterrupt), written_aside(path) as aside:
            aside.mkdir()
            (aside / "new").write_text("new")
    assert (path if when == 1 else tmp_path / ".folder.old").joinpath("old").read_text() == "old"
    with pytest.raises(ZeroDivisionError), written_aside(path):
        raise ZeroDivisionError
    assert tree(tmp_path) == {"folder": None, "folder/old": "old"}


def test_what_is_written_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace

    def note_fsync(descriptor):
        done.append(pathlib.Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def note_replace(*names):
        done.append("rename")
        replace(*names)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    with written_aside(tmp_path / "folder") as aside:
        aside.mkdir()
        (aside / "file").write_text("x")
    rundir.write_json(tmp_path / "value.json", 1)
    folder = ["file", ".folder.partial", "rename", tmp_path.name]
    assert done == [*folder, ".value.partial.json", "rename", tmp_path.name]


@pytest.mark.parametrize("name", ["file", "file.json", "a.b.keras"])
def test_a_file_takes_its_place_once_it_is_whole(tmp_path, name):
    path = tmp_path / "sub" / name
    with written_aside(path) as aside:
        assert aside.parent == path.parent
        assert aside.name.endswith(path.suffix)
        aside.write_text("new")
        assert not path.exists()
    assert tree(tmp_path) == {"sub": None, f"sub/{name}": "new"}


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), written_aside(path) as aside:
        aside.write_text("half")
        raise KeyboardInterrupt
    assert tree(tmp_path) == {"file.json": "old"}


def test_an_exception_leaves_the_old_folder_and_nothing_else(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_text("old")
    with pytest.raises(OSError, match="disk full"), written_aside(path) as aside:
        aside.mkdir()
        (aside / "half").write_text("half")
        raise OSError("disk full")
    assert tree(tmp_path) == {"folder": None, "folder/old": "old"}


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_text("old")
    with written_aside(path) as aside:
        aside.mkdir()
        (aside / "new").write_text("new")
        assert (path / "old").exists()
    assert tree(tmp_path) == {"folder": None, "folder/new": "new"}


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_kill_has_left_aside_is_removed_first(tmp_path, kind):
    path = tmp_path / "value"
    with written_aside(path) as aside:
        aside.write_text("first")
    if kind == "file":
        aside.write_text("stale")
    else:
        aside.mkdir()
        (aside / "stale").touch()
    with written_aside(path) as again:
        assert again == aside
        assert not again.exists()
        again.write_text("second")
    assert tree(tmp_path) == {"value": "second"}


def test_json_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "value.json"
    value = {"a": [1, 2.5, None], "b": {"ü": True}}
    rundir.write_json(path, value)
    assert rundir.read_json(path) == value
    assert path.read_text().endswith("}\n")


def test_a_value_that_json_does_not_know_leaves_the_old_file(tmp_path):
    path = tmp_path / "value.json"
    rundir.write_json(path, 1)
    with pytest.raises(TypeError, match="set is not JSON serializable"):
        rundir.write_json(path, {1})
    assert tree(tmp_path) == {"value.json": "1\n"}


def test_a_damaged_json_file_is_refused_by_name(tmp_path):
    path = tmp_path / "value.json"
    path.write_text('{"a": ')
    with pytest.raises(ValueError) as error:
        rundir.read_json(path)
    assert str(error.value) == (
        f"{path}: not JSON (Expecting value: line 1 column 7 (char 6)). Delete it, or restore the file."
    )


def test_lines_are_appended(tmp_path):
    path = tmp_path / "sub" / "metrics.jsonl"
    for epoch in (1, 2):
        rundir.append_line(path, {"epoch": epoch, "name": "a\nb"})
    assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [1, 2]


@pytest.mark.parametrize(
    ("text", "is_finished"),
    [
        (b'{"steps": 12}', True),
        (b'{"steps": 11}', False),
        (b'{"steps": null}', False),
        (b'{"steps": "12"}', False),
        (b"[12]", False),
    ],
)
def test_a_summary_is_that_of_a_finished_run_if_it_has_the_steps(tmp_path, text, is_finished):
    (tmp_path / "summary.json").write_bytes(text)
    assert rundir.finished_summary(RunDir(tmp_path), 12) == ({"steps": 12} if is_finished else None)


@pytest.mark.parametrize("text", [b"{half", b"", b"\xff\xfe"])
def test_a_damaged_summary_says_what_to_do(tmp_path, text):
    (tmp_path / "summary.json").write_bytes(text)
    with pytest.raises(UsageError, match=r"summary\.json: not JSON .* Delete it, or restore the file\."):
        rundir.finished_summary(RunDir(tmp_path), 12)


@pytest.mark.parametrize("half", ['{"epoch": 2, "lo', '{"epoch": 2}'])
def test_a_line_after_half_a_line_stands_alone(tmp_path, half):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"epoch": 1}\n' + half)
    for epoch in (2, 3):
        rundir.append_line(path, {"epoch": epoch})
    assert path.read_text() == '{"epoch": 1}\n' + half + '\n{"epoch": 2}\n{"epoch": 3}\n'


def test_a_line_that_cannot_be_written_says_why(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.symlink_to("/dev/full")
    message = rf"^{path} cannot be written \(No space left on device\)\. Free some space, "
    with pytest.raises(rundir.LineError, match=message):
        rundir.append_line(path, {"epoch": 1})


def test_two_processes_cannot_train_in_one_folder(tmp_path):
    run = RunDir(tmp_path / "run")
    message = rf"another process trains in it \(process {os.getpid()} on "
    with rundir.locked(run), pytest.raises(ValueError, match=message), rundir.locked(run):
        pass
    with rundir.locked(run):
        assert rundir.find_resume_step(run, "never") is None
