"""Each kind of training on replicas and with plain Keras; a fault of the all-reduce is seen."""

import pytest

from tfdist.doctor.acceptance import kinds, page
from tfdist.internals.access import collectives


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_each_kind_is_right_on_two_replicas(kind, make_strategy):
    one = kinds.KINDS[kind](kinds.keras_loops())
    many = kinds.KINDS[kind](kinds.tfdist_loops(make_strategy(2)))
    result, detail = page.compare(one, many, "float32")
    assert result == "right", detail
    # Otherwise, equal would mean nothing.
    assert max(abs(value) for values in one.values() for value in values) > 1e-3


@pytest.mark.parametrize("kind", ["mlp", "loop_by_hand"])
def test_an_all_reduce_that_sums_nothing_is_seen(kind, make_strategy, monkeypatch):
    one = kinds.KINDS[kind](kinds.keras_loops())
    monkeypatch.setattr(collectives, "_reduced", lambda values, options: list(values))
    many = kinds.KINDS[kind](kinds.tfdist_loops(make_strategy(2)))
    result, _ = page.compare(one, many, "float32")
    assert result == "differs"
