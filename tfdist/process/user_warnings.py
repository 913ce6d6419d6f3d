"""Warns at the line of the user's own code, because a warning's place is what a user looks at."""

import inspect
import warnings

from tfdist.process.errors import is_user_file


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warns as `warnings.warn` does; the warning names the nearest line of the user that led here.

    Where no such line is on the stack, as in a thread, it names the line that calls this function.
    """
    here = inspect.currentframe()
    frame, level = here and here.f_back, 2
    while frame is not None and not is_user_file(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    # Level 1 is this function, 2 the one that calls it.
    warnings.warn(message, category, stacklevel=2 if frame is None else level)
