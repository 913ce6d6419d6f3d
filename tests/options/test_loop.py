"""The numbers of a loop; `tests/test_wrong_calls.py` has what is refused."""

import inspect

import numpy as np
import pytest

from tfdist.options.loop import LoopOptions


def test_every_option_is_an_argument_of_fit():
    import tfdist

    arguments = inspect.signature(tfdist.fit).parameters
    fields = LoopOptions.__dataclass_fields__
    assert set(fields) <= set(arguments)
    assert {name: field.default for name, field in fields.items()} == {name: arguments[name].default for name in fields}


def test_numpys_numbers_become_pythons():
    options = LoopOptions(epochs=np.int64(3), validation_split=np.float32(0.5), shuffle=np.False_)
    assert [type(value) for value in (options.epochs, options.validation_split, options.shuffle)] == [int, float, bool]


@pytest.mark.parametrize("frequency", [2, [1, 3], {4}, (np.int64(2),)])
def test_validations_may_be_every_few_epochs_or_after_some(frequency):
    assert LoopOptions(validation_freq=frequency).validation_freq == frequency
