"""The errors of tfdist's own: each message says where, what came and what to do, and each class its exit code.

The commands catch `TfdistError` and nothing else, so an error in the code of a user keeps its traceback. Each class has
the fitting built-in class as its second base: `except ValueError` works as one expects.
"""

import contextlib
import inspect
import json
import os
import pathlib
import sys
import sysconfig
import traceback

from tfdist.process.exits import MISTAKE

# The launcher's agent sets it: the folder in which a process leaves its cause of death.
CAUSES = "TFDIST_CAUSES_DIR"

_INSTALLED = tuple(
    os.path.realpath(folder)
    for folder in {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {str(pathlib.Path(__file__).parents[1])}
)


class TfdistError(Exception):
    """Base class of what tfdist refuses.

    Attributes:
        exit_code: the code with which a command ends because of it.
    """

    exit_code = MISTAKE

    def __init__(self, *arguments):
        super().__init__(*arguments)
        _report_when_uncaught(os.environ)


class UsageError(TfdistError, ValueError):
    """An argument, a flag, a file or a variable of the environment is wrong."""


class StateError(TfdistError, RuntimeError):
    """Something was called at a wrong moment, or what it needs is not there."""


class MissingFileError(TfdistError, FileNotFoundError):
    """A file or a folder is not there."""


class MissingPackageError(TfdistError, ImportError):
    """An optional package is not installed."""


class UserCodeError(UsageError):
    """A function or a file of the user's raised an error; the message ends with the user's own traceback.

    Args:
        where: the file, and perhaps the flag that named it.
        error: what was raised.
    """

    def __init__(self, where, error):
        super().__init__(f"{where}: this code of yours raised an error.\n{user_traceback(error)}")


@contextlib.contextmanager
def user_code(where):
    """Turns what the user's own code raises into a `UserCodeError`.

    Args:
        where: the file, and perhaps the flag that named it; or a function, whose file is then named.
    """
    try:
        yield
    except Exception as error:
        raise UserCodeError(_file_of(where) if callable(where) else where, error) from error


def _file_of(function):
    code = getattr(inspect.unwrap(function), "__code__", None)
    name = getattr(function, "__qualname__", type(function).__name__)
    return f"{code.co_filename}: {name}()" if code else f"{name}()"


def user_traceback(error):
    """Returns the text of a traceback, without the frames of tfdist and of installed packages."""
    whole = traceback.TracebackException.from_exception(error)
    for part in _chain(whole):
        part.stack = traceback.StackSummary.from_list(frame for frame in part.stack if is_user_file(frame.filename))
    return "".join(whole.format()).rstrip()


def is_user_file(path):
    """Returns whether a file belongs to the user: it is neither in tfdist nor in an installed package."""
    # Frozen modules, and what a dataclass or a named tuple has generated; a notebook's cell is the user's.
    if path.startswith("<") and not path.startswith("<ipython-input-"):
        return False
    real = os.path.realpath(path)
    parts = pathlib.PurePath(real).parts
    if "site-packages" in parts or "dist-packages" in parts:
        return False
    return not any(real.startswith(folder + os.sep) for folder in _INSTALLED)


def _chain(whole):
    """Yields a `TracebackException` and those that it came from."""
    while whole is not None:
        yield whole
        whole = whole.__cause__ or whole.__context__


def read_cause(folder, pid):
    """Returns what `TfdistError` ended a process, as {"error": class, "exit_code": number}; None where none did."""
    try:
        return json.loads(_cause_file(folder, pid).read_text())
    except (OSError, ValueError):
        return None


def _cause_file(folder, pid):
    return pathlib.Path(folder) / f"cause-{pid}.json"


def _report_when_uncaught(environ):
    """Makes this process, where the launcher has started it, leave its cause behind if no one catches a `TfdistError`.

    A script of the user's then ends with a traceback and code 1, and only this tells the launcher that a restart mends
    nothing. It is done with the first such error, because an import of tfdist must change nothing.
    """
    folder = environ.get(CAUSES)
    if not folder or getattr(sys.excepthook, "reports_to_launcher", False):
        return
    before = sys.excepthook

    def hook(kind, error, trace):
        if issubclass(kind, TfdistError):
            cause = {"error": f"{kind.__module__}.{kind.__qualname__}", "exit_code": kind.exit_code}
            # Where it cannot be written, the launcher takes it for a failure, and starts again.
            with contextlib.suppress(OSError):
                _cause_file(folder, os.getpid()).write_text(json.dumps(cause))
        before(kind, error, trace)

    hook.reports_to_launcher = True
    sys.excepthook = hook
