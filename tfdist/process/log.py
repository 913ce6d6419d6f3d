"""The logger of tfdist, whose lines are shown even where the program does not configure logging."""

import logging
import sys

logger = logging.getLogger("tfdist")


def say(message):
    """Logs a line that a user should see once, at INFO.

    Python shows no INFO lines by default, so a notebook would not show which strategy was chosen. Where the program
    does not configure logging, the line goes to stderr.
    """
    _ensure_handler()
    logger.info(message)


def warn(message):
    """Logs a line about something that the user may want to change, at WARNING."""
    _ensure_handler()
    logger.warning(message)


def show(text):
    """Prints a line of results on stdout. A closed pipe or a full disk behind stdout does not end the training."""
    try:
        print(text, flush=True)
    except OSError:
        # Otherwise the end of Python would flush the buffer, and fail again.
        sys.stdout = None


def is_terminal():
    """Returns whether stdout is a terminal; False where there is no stdout, as after `>&-`."""
    return sys.stdout is not None and sys.stdout.isatty()


def _ensure_handler():
    if logger.hasHandlers():
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("tfdist: %(message)s"))
    logger.addHandler(handler)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
