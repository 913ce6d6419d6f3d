"""Exit codes of tfdist's commands, on which the launcher and job systems act, and how these end."""

import atexit
import contextlib
import gc
import inspect
import io
import os
import threading

# The user can mend it; the message says how.
MISTAKE = 2
# A signal asked the run to stop: it saved, and the same command goes on. `EX_TEMPFAIL` of sysexits.h.
STOPPED = 75
# Another worker ended or fell silent; this one could not go on without it.
PEER_LOST = 76
# A worker stood still for too long, and was ended; as `timeout` has it.
HUNG = 124
# Ctrl-C, as shells have it; a run that saves has saved.
INTERRUPTED = 130

# What `open` returns where something is written; exact types, because a process with TensorFlow has 300,000 objects.
_BUFFERED = frozenset((io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom))


def run_and_leave(main):
    """Runs a command's `main` and ends the process with its exit code; for a module that runs as `__main__`.

    TensorFlow's and Python's own teardown take a second of CPU time and do nothing for anybody: threads are waited for,
    exit handlers run and streams are flushed as at any end, and then the process is gone. What fails with a traceback,
    and a command that is not alone in its process, under a profiler or a debugger, ends as usual.

    Args:
        main: a function () → exit code, which may also come as a `SystemExit`.
    """
    frame, around = inspect.currentframe().f_back, set()
    while frame := frame.f_back:
        around.add(frame.f_globals.get("__name__"))
    try:
        code = main() or 0
    except SystemExit as request:
        code = request.code or 0
    if around - {"runpy"} or not isinstance(code, int):
        raise SystemExit(code)
    # What Python itself does at its end, and has no public name for.
    threading._shutdown()  # noqa: SLF001
    atexit._run_exitfuncs()  # noqa: SLF001
    _flush_files()
    os._exit(code)


def _flush_files():
    """Flushes stdout, stderr and each file that is still open, as Python's own end does."""
    files = [item for item in gc.get_objects() if type(item) in _BUFFERED]
    # Text first: its own buffer goes into the one below. A reader may have gone away.
    for file in sorted(files, key=lambda item: not isinstance(item, io.TextIOWrapper)):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            file.flush()
