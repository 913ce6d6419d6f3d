"""Checks that the frozen option classes share."""

from tfdist.process.errors import UsageError


def check_choice(options, field, allowed):
    """Checks that a field of an option class has one of its allowed values.

    Raises:
        ValueError: it has another value; the message lists the allowed ones.
    """
    value = getattr(options, field)
    if value not in allowed:
        raise UsageError(f"{field} is {value!r}. Use one of {', '.join(allowed)}.")


def is_whole(value):
    """Returns whether a value is a whole number; True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)
