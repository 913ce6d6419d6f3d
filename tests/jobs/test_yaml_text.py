"""YAML of plain data, read back by PyYAML."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdist.jobs.yaml_text import yaml_text

# The one in C is ten times as fast, where it is there.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
TEXTS = st.one_of(
    st.text(),
    st.text(st.characters(codec="ascii")),
    st.text("ab:-#'\"{}[]|>&*!%@` \n"),
    st.sampled_from(["yes", "No", "on", "null", "~", "1", "0x1", "1e3", "2026-12-01", "a: b", "- a", "1:30", "", "\n"]),
)
VALUES = st.recursive(
    st.one_of(TEXTS, st.integers(), st.booleans()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(TEXTS, inner)),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None)
@given(st.one_of(st.lists(VALUES, min_size=1), st.dictionaries(TEXTS, VALUES, min_size=1)))
def test_it_is_read_back_as_it_was(value):
    assert yaml.load(yaml_text(value), LOADER) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": 1, "b": [{"c": True}, "d"]}, "a: 1\nb:\n  - c: true\n  - d\n"),
        ({"script": "one\n  two\n\nthree"}, "script: |-\n  one\n    two\n\n  three\n"),
        ({"y": "yes", "n": "2"}, '"y": "yes"\n"n": "2"\n'),
        (
            {"path": "/runs/1", "image": "registry:5000/name", "none": {}},
            "path: /runs/1\nimage: registry:5000/name\nnone: {}\n",
        ),
    ],
)
def test_it_is_written_as_people_write_it(value, text):
    assert yaml_text(value) == text
