"""Names are suggested that are near, and none where none is."""

import pytest

from tfdist.process.nearest import did_you_mean, nearest

NAMES = ("one_device", "mirrored", "multi_worker", "tpu", "adam", "sgd")


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("mirored", "mirrored"),
        ("Mirrored", "mirrored"),
        ("multi-worker", "multi_worker"),
        ("mir", "mirrored"),
        ("adm", "adam"),
        # Two letters of three say little.
        ("gpu", None),
        ("horovod", None),
        ("", None),
        (3, None),
        (None, None),
    ],
)
def test_the_nearest_name_is_found_or_none(word, found):
    assert nearest(word, NAMES) == found
    assert did_you_mean(word, NAMES) == (f" Did you mean {found!r}?" if found else "")


def test_a_name_itself_is_not_suggested():
    assert did_you_mean("adam", NAMES) == ""
