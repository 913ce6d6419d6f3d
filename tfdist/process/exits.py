"""Exit codes of tfdist's commands, on which the launcher and job systems act, and how the commands end."""

import atexit
import contextlib
import gc
import inspect
import io
import os
import threading
from collections.abc import Callable
from typing import NoReturn

# The user can correct it; the message says how.
MISTAKE = 2
# A signal asked the run to stop: it saved, and the same command continues it. `EX_TEMPFAIL` of sysexits.h.
STOPPED = 75
# Another worker ended or stopped answering, and this worker could not continue without it.
PEER_LOST = 76
# The loss or a weight is not a finite number. The same command would end the same way.
NOT_FINITE = 77
# A worker was stuck for too long, and the launcher ended it; `timeout` has the same code.
HUNG = 124
# Ctrl-C, with the code of shells; a run with checkpoints has saved one.
INTERRUPTED = 130


class StopRequest(SystemExit):
    """The exit after a signal asked a run to stop, and the run has saved.

    Attributes:
        signal: the name of the signal.
    """

    def __init__(self, signal: str) -> None:
        super().__init__(STOPPED)
        self.signal = signal


# What `open` returns where something is written; exact types, because a process with TensorFlow has 300,000 objects.
_BUFFERED = frozenset((io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom))


def run_and_leave(main: Callable[[], int | None]) -> NoReturn:
    """Runs a command's `main` and ends the process with its exit code, in a module that runs as `__main__`.

    The teardown of TensorFlow and Python takes a second of CPU time, and has no use here. So this function waits for
    threads, runs exit handlers and flushes files, as Python does, and then ends the process at once. A command that
    fails with a traceback, or runs under a profiler or a debugger, ends as usual.

    Args:
        main: a function () → exit code; it may also raise the code as a `SystemExit`.
    """
    here, callers = inspect.currentframe(), set()
    frame = here and here.f_back
    while frame and (frame := frame.f_back):
        callers.add(frame.f_globals.get("__name__"))
    code: int | str
    try:
        code = main() or 0
    except SystemExit as request:
        code = request.code or 0
    if callers - {"runpy"} or not isinstance(code, int):
        raise SystemExit(code)
    # Python does the same at its end, but has no public names for it.
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001
    atexit._run_exitfuncs()  # noqa: SLF001
    _flush_files()
    os._exit(code)


def _flush_files() -> None:
    """Flushes stdout, stderr and each file that is still open, as Python does at its end."""
    files = [item for item in gc.get_objects() if type(item) in _BUFFERED]
    # Text first, because its buffer is flushed into the binary one below. The reader of a pipe may be gone.
    for file in sorted(files, key=lambda item: not isinstance(item, io.TextIOWrapper)):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            file.flush()
