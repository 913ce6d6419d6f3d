"""tfdist's own errors: their built-in classes, the frames that they show, and what the launcher reads of them."""

import json

import pytest
from support.processes import run_python

from tfdist.checkpoints import checkpoint
from tfdist.cluster import rendezvous
from tfdist.cluster.addresses import ClusterError
from tfdist.cluster.rendezvous.messages import MismatchError
from tfdist.process import errors
from tfdist.process.errors import TfdistError, UsageError, user_code
from tfdist.run import manifest, rundir

RECIPE = """import numpy as np

def helper(value):
    return np.zeros(3).reshape(value)

def recipe():
    return helper((2, 2))
"""


@pytest.fixture
def recipe(tmp_path):
    """Runs the function of a user's file; returns (its path, the error)."""
    path = tmp_path / "mine.py"
    path.write_text(RECIPE)
    names = {}
    exec(compile(RECIPE, str(path), "exec"), names)
    with pytest.raises(errors.UserCodeError) as caught, user_code(f"--recipe={path}"):
        names["recipe"]()
    return path, caught.value


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (UsageError, ValueError),
        (errors.StateError, RuntimeError),
        (errors.MissingFileError, FileNotFoundError),
        (errors.MissingPackageError, ImportError),
        (errors.UserCodeError, ValueError),
        (checkpoint.CheckpointError, ValueError),
        (checkpoint.SaveError, OSError),
        (ClusterError, ValueError),
        (manifest.DamagedError, ValueError),
        (manifest.FormatError, ValueError),
        (rundir.FolderNotEmptyError, FileExistsError),
        (rundir.NotAFolderError, NotADirectoryError),
        (rendezvous.RendezvousError, RuntimeError),
    ],
)
def test_each_error_can_be_caught_as_the_builtin_that_fits(kind, builtin):
    assert issubclass(kind, TfdistError)
    assert issubclass(kind, builtin)


def test_a_late_worker_is_worth_another_start_and_a_mistake_is_not():
    assert UsageError("x").exit_code == 2
    assert rendezvous.RendezvousError("x").exit_code == 76
    assert MismatchError("x").exit_code == 2


def test_the_users_own_lines_are_shown_and_no_others(recipe):
    path, error = recipe
    first, *lines = str(error).splitlines()
    assert first == f"--recipe={path}: your code raised an error."
    assert lines[0] == "Traceback (most recent call last):"
    # The first frame is this test's own call.
    assert [line.strip() for line in lines if line.startswith("  File")][1:] == [
        f'File "{path}", line 7, in recipe',
        f'File "{path}", line 4, in helper',
    ]
    assert lines[-1] == "ValueError: cannot reshape array of size 3 into shape (2,2)"


def test_an_error_behind_the_error_is_shown_too(tmp_path):
    with pytest.raises(errors.UserCodeError) as caught, user_code("x"):
        try:
            {}["inner"]
        except KeyError as error:
            raise RuntimeError("outer") from error
    text = str(caught.value)
    assert "KeyError: 'inner'" in text
    assert text.endswith("RuntimeError: outer")


def test_what_is_installed_is_not_the_users():
    assert not errors.is_user_file(json.__file__)
    assert not errors.is_user_file(errors.__file__)
    assert not errors.is_user_file(pytest.__file__)
    assert not errors.is_user_file("<frozen importlib._bootstrap>")
    assert errors.is_user_file(__file__)
    assert errors.is_user_file("<ipython-input-1>")


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("raise UsageError('x')", {"error": "tfdist.process.errors.UsageError", "exit_code": 2}),
        (
            "raise RendezvousError('x')",
            {"error": "tfdist.cluster.rendezvous.messages.RendezvousError", "exit_code": 76},
        ),
        ("UsageError('caught')\nraise ValueError('x')", None),
    ],
)
def test_a_process_that_such_an_error_ends_leaves_its_cause(line, cause, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os\nfrom tfdist.cluster.rendezvous import RendezvousError\n"
        "from tfdist.process.errors import UsageError\n"
        f"print(os.getpid())\n{line}\n"
    )
    ended = run_python(script, environ={errors.CAUSES: str(tmp_path)}, deadline_seconds=20)
    assert ended.code == 1
    assert "Traceback" in ended.err
    assert errors.read_cause(tmp_path, int(ended.out)) == cause
