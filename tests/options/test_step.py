"""The options of a step are checked when they are made."""

import pytest

from tfdist.options.step import COMPRESSIONS, EXCHANGES, StepOptions


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"exchange": "ring"}, "exchange is 'ring'. Use one of auto, all_reduce, factors."),
        ({"compression": None}, "compression is None. Use one of none, bfloat16, float16."),
        ({"jit_compile": "true"}, "jit_compile is 'true'. Use True, False, 'auto', or None for the value of compile."),
        ({"jit_compile": 1}, "jit_compile is 1. Use True, False, 'auto'"),
        ({"steps_per_execution": True}, "steps_per_execution is True. Use a whole number from 1, 'auto', or None"),
        ({"steps_per_execution": "all"}, "steps_per_execution is 'all'. Use a whole number from 1, 'auto', or None"),
        ({"steps_per_execution": 0}, "steps_per_execution is 0. Use a whole number from 1, 'auto', or None"),
        ({"sync_batchnorm": None}, "sync_batchnorm is None. Use True or False."),
    ],
)
def test_a_wrong_value_is_refused_by_field_and_value(fields, message):
    with pytest.raises(ValueError) as error:
        StepOptions(**fields)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("exchange", EXCHANGES),
        ("compression", COMPRESSIONS),
        ("jit_compile", (True, False, "auto", None)),
        ("steps_per_execution", (1, 50, "auto", None)),
        ("sync_batchnorm", (True, False)),
    ],
)
def test_each_value_on_offer_is_taken(field, values):
    assert [getattr(StepOptions(**{field: value}), field) for value in values] == list(values)
