"""How tfdist speaks: one logger, heard also where nobody has set logging up."""

import logging
import sys

logger = logging.getLogger("tfdist")


def say(message):
    """Logs a line that a user should see once, at INFO.

    Python shows INFO to nobody by default, and a notebook would never hear which strategy was chosen: where the
    program has no logging of its own, the line goes to stderr.
    """
    _make_heard()
    logger.info(message)


def warn(message):
    """Logs a line about something that the user may want to change, at WARNING."""
    _make_heard()
    logger.warning(message)


def show(text):
    """Prints a line of results on stdout. A reader that goes away, or a full disk behind it, ends no training."""
    try:
        print(text, flush=True)
    except OSError:
        # What Python still has in its buffer would fail again at the end.
        sys.stdout = None


def is_terminal():
    """Returns whether stdout is a terminal; without one, as after `>&-`, it is not."""
    return sys.stdout is not None and sys.stdout.isatty()


def _make_heard():
    if logger.hasHandlers():
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("tfdist: %(message)s"))
    logger.addHandler(handler)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
