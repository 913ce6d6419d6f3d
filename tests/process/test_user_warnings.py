"""A warning names the user's line, whatever lies between it and the warning."""

import inspect
import warnings

import pytest

from tfdist.feeding import checks
from tfdist.process import user_warnings


def told(call):
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        call()
    # Keras 3.13 on NumPy 2 gives deprecation warnings of its own.
    (warning,) = [each for each in given if each.category is UserWarning]
    return warning


def test_a_warning_names_the_line_of_the_user():
    warning = told(lambda: checks.limit(9, 3, "epochs"))
    assert (warning.filename, str(warning.message)) == (__file__, "keras.config limits the epochs to 3.")
    line = inspect.getsourcelines(test_a_warning_names_the_line_of_the_user)[1] + 1
    assert warning.lineno == line


def test_without_a_line_of_the_user_it_names_the_caller(monkeypatch):
    monkeypatch.setattr(user_warnings, "is_user_file", lambda path: False)
    assert told(lambda: checks.limit(9, 3, "epochs")).filename == checks.__file__


@pytest.mark.usefixtures("cpus")
def test_a_warning_of_fit_names_the_line_that_calls_fit():
    import numpy as np
    from support import jobs

    import tfdist

    x, y = jobs.make_rows(8, "float32")
    model = jobs.make_mlp()
    batches = ((x, y) for _ in range(1))
    warning = told(lambda: tfdist.fit(model, batches, steps_per_epoch=3, verbose=0))
    assert warning.filename == __file__ and "the data ended after 1 batches" in str(warning.message)
    assert np.isfinite(jobs.weights_of(model)).all()
