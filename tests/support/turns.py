"""Crossed parameters that take turns: each change tries every value, and `make full` every pair."""

import pytest


def in_turns(first, second):
    """Returns every pair of two lists as pytest parameters; the mark `full` is on those that each change leaves out."""
    return [
        pytest.param(one, other, marks=[] if i % len(second) == j % len(first) else pytest.mark.full)
        for i, one in enumerate(first)
        for j, other in enumerate(second)
    ]
