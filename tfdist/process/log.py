"""The logger of tfdist, whose lines are shown even where the program does not configure logging."""

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, MutableMapping
from typing import Any

logger = logging.getLogger("tfdist")
_EXPLAINS = "explains_difference"


def say(message: str, *, explains_difference: bool = False) -> None:
    """Logs a line that a user should see once, at INFO.

    Python shows no INFO lines by default, so a notebook would not show which strategy was chosen. Where the program
    does not configure logging, the line goes to stderr.

    Args:
        message: the line.
        explains_difference: whether it names something that replicas may compute otherwise than one device.
    """
    _ensure_handler()
    logger.info(message, extra={_EXPLAINS: explains_difference})


def warn(message: str, *, explains_difference: bool = False) -> None:
    """Logs a line about something that the user may want to change, at WARNING; arguments as for `say`."""
    _ensure_handler()
    logger.warning(message, extra={_EXPLAINS: explains_difference})


class Explanations(logging.Filter):
    """Collects the lines that may explain a difference, and shows only the warnings that do not.

    Attributes:
        lines: the lines, each once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Keeps a line; returns whether to show it."""
        explains = getattr(record, _EXPLAINS, False)
        if explains and record.getMessage() not in self.lines:
            self.lines.append(record.getMessage())
        return not explains and record.levelno > logging.INFO

    @contextlib.contextmanager
    def collected(self) -> Iterator[None]:
        """Collects while the context is entered, whatever level the program shows."""
        _ensure_handler()
        level = logger.level
        logger.addFilter(self)
        logger.setLevel(min(logger.getEffectiveLevel(), logging.INFO))
        try:
            yield
        finally:
            logger.setLevel(level)
            logger.removeFilter(self)


def show(text: str) -> None:
    """Prints a line of results on stdout. A closed pipe or a full disk behind stdout does not end the training."""
    try:
        print(text, flush=True)
    except OSError:
        # Otherwise the end of Python would flush the buffer, and fail again.
        sys.stdout = None


@contextlib.contextmanager
def quiet_loading(environ: MutableMapping[str, str] = os.environ) -> Iterator[None]:
    """Hides what native libraries write on stderr while they are loaded, and asks TensorFlow for errors alone.

    TensorFlow writes lines about processors and GPUs before it reads its own log level. If loading fails, all that was
    hidden is shown. A user who has set TF_CPP_MIN_LOG_LEVEL to another level sees everything.
    """
    if environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "3":
        yield
        return
    stderr: int | None
    with contextlib.ExitStack() as opened:
        try:
            hidden = opened.enter_context(tempfile.TemporaryFile())
            stderr = os.dup(2)
        except OSError:
            # No folder for a file, or a closed stderr: loading must not fail because of it.
            stderr = None
        if stderr is None:
            yield
            return
        opened.callback(os.close, stderr)
        os.dup2(hidden.fileno(), 2)
        try:
            yield
        except BaseException:
            hidden.seek(0)
            os.write(stderr, hidden.read())
            raise
        finally:
            os.dup2(stderr, 2)


def is_terminal() -> bool:
    """Returns whether stdout is a terminal; False where there is no stdout, as after `>&-`."""
    return sys.stdout is not None and sys.stdout.isatty()


class _Screen(logging.StreamHandler[Any]):
    """Shows a line on stderr, and hands it to the handlers that the program adds later, but to no second screen.

    absl, within TensorFlow, adds one to the root logger with its first line of its own.
    """

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        for handler in logging.getLogger().handlers:
            if type(handler) is not logging.StreamHandler and record.levelno >= handler.level:
                handler.handle(record)


def _ensure_handler() -> None:
    if logger.hasHandlers():
        return
    handler = _Screen()
    handler.setFormatter(logging.Formatter("tfdist: %(message)s"))
    logger.addHandler(handler)
    logger.propagate = False
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
