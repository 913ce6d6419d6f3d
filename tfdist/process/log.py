"""How tfdist speaks: one logger, heard also where nobody has set logging up."""

import logging

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


def _make_heard():
    if logger.hasHandlers():
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("tfdist: %(message)s"))
    logger.addHandler(handler)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
