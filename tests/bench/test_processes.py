"""The text of a contender's error, in one line of the table."""

import pytest

from tfdist.bench.processes import shorten


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("ValueError: no such layer\nDetected at node x", "ValueError: no such layer"),
        (
            "ValueError: in user code:\n\n    File y.py\n\n    ValueError: 3 is odd\n",
            "ValueError: ValueError: 3 is odd",
        ),
        ("its process ended with code 1: bad", "its process ended with code 1: bad"),
        ("E: " + "x" * 300, "E: " + "x" * 197),
    ],
)
def test_an_error_is_told_by_its_most_informative_line(error, expected):
    assert shorten(error) == expected
