"""tfdist's own errors: each message names the place, the wrong value and the remedy; each class has an exit code.

The commands catch `TfdistError` and nothing else, so an error in a user's code keeps its traceback. The second base of
each class is the built-in class that fits, so `except ValueError` works as expected.
"""

import contextlib
import inspect
import json
import os
import pathlib
import sys
import sysconfig
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from typing import TypedDict

from tfdist.process.exits import MISTAKE, NOT_FINITE

# The launcher's agent sets it: the folder to which a process writes the error that ended it.
CAUSES = "TFDIST_CAUSES_DIR"

_INSTALLED = tuple(
    os.path.realpath(folder)
    for folder in {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {str(pathlib.Path(__file__).parents[1])}
)

_Excepthook = Callable[[type[BaseException], BaseException, types.TracebackType | None], object]


class TfdistError(Exception):
    """Base class of tfdist's own errors.

    Attributes:
        exit_code: the exit code of a command that this error ends.

    Example:
        ```python
        import tfdist

        try:
            tfdist.RunConfig(epochs=0)
        except tfdist.TfdistError as error:
            print(f"exit code {error.exit_code}: {error}")
        ```
    """

    exit_code: int = MISTAKE

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        _set_excepthook(os.environ)


class UsageError(TfdistError, ValueError):
    """An argument, a flag, a file or an environment variable is wrong."""


class StateError(TfdistError, RuntimeError):
    """A function was called at the wrong moment, or something that it needs is missing."""


class MissingFileError(TfdistError, FileNotFoundError):
    """A file or a folder is missing."""


class MissingPackageError(TfdistError, ImportError):
    """An optional package is not installed."""


class NotFiniteError(TfdistError, ArithmeticError):
    """The loss or a weight is NaN or infinite; what was saved before is unchanged."""

    exit_code = NOT_FINITE


class UserCodeError(UsageError):
    """A function or a file of the user raised an error; the message ends with the user's own traceback.

    Args:
        where: the file, and perhaps the flag that named it.
        error: the exception that was raised.
    """

    def __init__(self, where: str, error: BaseException) -> None:
        super().__init__(f"{where}: your code raised an error.\n{user_traceback(error)}")


@contextlib.contextmanager
def user_code(where: str | Callable[..., object]) -> Iterator[None]:
    """Converts exceptions of the user's own code to `UserCodeError`.

    Args:
        where: the file, and perhaps the flag that named it; or a function, whose file is then reported.
    """
    try:
        yield
    except Exception as error:
        raise UserCodeError(_file_of(where) if callable(where) else where, error) from error


def _file_of(function: Callable[..., object]) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    name = getattr(function, "__qualname__", type(function).__name__)
    return f"{code.co_filename}: {name}()" if code else f"{name}()"


def user_traceback(error: BaseException) -> str:
    """Returns the text of a traceback, without the frames of tfdist and of installed packages."""
    whole = traceback.TracebackException.from_exception(error)
    for part in _iterate_chain(whole):
        part.stack = traceback.StackSummary.from_list([frame for frame in part.stack if is_user_file(frame.filename)])
    return "".join(whole.format()).rstrip()


def is_user_file(path: str) -> bool:
    """Returns whether a file belongs to the user, so is neither in tfdist nor in an installed package."""
    # Frozen modules and the generated code of dataclasses and named tuples are not the user's; a notebook's cell is.
    if path.startswith("<") and not path.startswith("<ipython-input-"):
        return False
    real = os.path.realpath(path)
    parts = pathlib.PurePath(real).parts
    if "site-packages" in parts or "dist-packages" in parts:
        return False
    return not any(real.startswith(folder + os.sep) for folder in _INSTALLED)


def _iterate_chain(whole: traceback.TracebackException | None) -> Iterator[traceback.TracebackException]:
    """Yields a `TracebackException`, then its causes and contexts."""
    while whole is not None:
        yield whole
        whole = whole.__cause__ or whole.__context__


class Cause(TypedDict):
    """The `TfdistError` that ended a process: its class, and the exit code of a command that it would end."""

    error: str
    exit_code: int


def read_cause(folder: str | os.PathLike[str], pid: int) -> Cause | None:
    """Returns the `TfdistError` that ended a process, or None without one."""
    try:
        cause: Cause = json.loads(_cause_file(folder, pid).read_text())
    except (OSError, ValueError):
        return None
    return cause


def _cause_file(folder: str | os.PathLike[str], pid: int) -> pathlib.Path:
    return pathlib.Path(folder) / f"cause-{pid}.json"


def _set_excepthook(environ: Mapping[str, str]) -> None:
    """Makes a process that the launcher has started write an uncaught `TfdistError` to a file for the launcher.

    The user's script then ends with a traceback and exit code 1, and only this file tells the launcher that a restart
    does not help. The hook is set with the first such error, because an import of tfdist must change nothing.
    """
    folder = environ.get(CAUSES)
    if folder and not isinstance(sys.excepthook, _CauseWriter):
        sys.excepthook = _CauseWriter(folder, sys.excepthook)


class _CauseWriter:
    """An excepthook that writes an uncaught `TfdistError` to a file, and then calls the previous hook.

    Args:
        folder: the folder for the file.
        previous: the hook that it replaces.
    """

    def __init__(self, folder: str, previous: _Excepthook) -> None:
        self._folder, self._previous = folder, previous

    def __call__(self, kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
        if issubclass(kind, TfdistError):
            cause = Cause(error=f"{kind.__module__}.{kind.__qualname__}", exit_code=kind.exit_code)
            # Without the file, the launcher treats the exit as a failure and restarts the workers.
            with contextlib.suppress(OSError):
                _cause_file(self._folder, os.getpid()).write_text(json.dumps(cause))
        self._previous(kind, error, trace)
