"""Each field is checked against its type and its option, for the shell and for Python alike."""

import dataclasses
import fractions
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tfdist.options.checks import check_fields, is_count, is_number, is_switch, is_whole
from tfdist.options.fields import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checked:
    """One field of each type.

    Attributes:
        table: a dict.
    """

    count: int = option(1, help="A count.", least=1)
    most: int | None = option(None, help="At most nine.", least=1, most=9)
    rate: float = option(0.5, help="A rate.", above=0, below=1)
    switch: bool = option(False, help="A switch.")
    colour: str = option("red", choices=("red", "blue"), help="A colour.", flag="paint")
    rows: int | str = option("all", words=("all",), help="Rows.", least=1)
    sizes: tuple[int, ...] = option((1,), help="Sizes.", least=1)
    text: str = option("", help="A text.")
    table: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        check_fields(self)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"count": 0}, "count is 0. Use a whole number from 1."),
        ({"count": 1.0}, "count is 1.0. Use a whole number from 1."),
        ({"count": True}, "count is True. Use a whole number from 1."),
        ({"count": np.True_}, "count is np.True_. Use a whole number from 1."),
        ({"count": "1"}, "count is '1'. Use a whole number from 1."),
        ({"count": None}, "count is None. Use a whole number from 1."),
        ({"most": 10}, "most is 10. Use a whole number from 1 to 9."),
        ({"rate": 1}, "rate is 1. Use a number above 0 below 1."),
        ({"rate": float("nan")}, "rate is nan. Use a number above 0 below 1."),
        ({"rate": False}, "rate is False. Use a number above 0 below 1."),
        ({"switch": 1}, "switch is 1. Use True or False."),
        ({"colour": "read"}, "paint is 'read'. Use one of red, blue. Did you mean 'red'?"),
        ({"colour": ["red"]}, "paint is ['red']. Use one of red, blue."),
        ({"rows": "al"}, "rows is 'al'. Use a whole number from 1, or 'all'. Did you mean 'all'?"),
        ({"rows": 0}, "rows is 0. Use a whole number from 1, or 'all'."),
        ({"sizes": 3}, "sizes is 3. Use a tuple."),
        ({"sizes": (1, 0)}, "sizes is (1, 0). Use a tuple."),
        ({"text": 3}, "text is 3. Use a name."),
        ({"table": 3}, "table is 3. Use a dict."),
    ],
)
def test_a_wrong_value_is_told_with_its_flag_and_what_to_use(fields, message):
    with pytest.raises(ValueError) as error:
        Checked(**fields)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"count": np.int64(3)}, int),
        ({"most": np.uint8(3)}, int),
        ({"rate": np.float32(0.25)}, float),
        ({"rate": fractions.Fraction(1, 4)}, float),
        ({"switch": np.True_}, bool),
        ({"sizes": [np.int32(2), 3]}, tuple),
        ({"rows": np.int16(2)}, int),
    ],
)
def test_a_number_of_numpy_becomes_pythons(fields, kind):
    ((name, given),) = fields.items()
    value = getattr(Checked(**fields), name)
    assert type(value) is kind
    assert value == (tuple(given) if kind is tuple else given)


def test_what_a_number_is():
    assert [is_whole(value) for value in (3, np.int64(3), True, np.True_, 3.0, "3", None)] == [True] * 2 + [False] * 5
    assert [is_count(value) for value in (1, 0, -1)] == [True, False, False]
    numbers = (3, 0.5, np.float32(0.5), True, float("inf"), "3", None)
    assert [is_number(value) for value in numbers] == [True] * 3 + [False] * 4
    assert [is_switch(value) for value in (True, np.False_, 1, "true")] == [True] * 2 + [False] * 2
