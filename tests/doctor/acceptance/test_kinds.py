"""Each kind of training on replicas and with plain Keras; a fault of the all-reduce is seen."""

import pytest

from tfdist.doctor.acceptance import kinds, page
from tfdist.internals.access import collectives

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_each_kind_is_right_on_two_replicas(kind, make_strategy):
    one = kinds.KINDS[kind](kinds.keras_loops())
    many = kinds.KINDS[kind](kinds.tfdist_loops(make_strategy(2)))
    result, detail = page.compare(one, many, "float32")
    assert result == "right", detail
    # Otherwise, equal would mean nothing.
    assert max(abs(value) for values in one.values() for value in values) > 1e-3


@pytest.mark.parametrize("kind", ["mlp", "loop_by_hand"])
def test_an_all_reduce_that_sums_matrices_wrongly_is_seen(kind, make_strategy, monkeypatch):
    one = kinds.KINDS[kind](kinds.keras_loops())
    right = collectives._reduced

    def wrong(values, options):
        return [total * 1.01 if total.shape.rank == 2 else total for total in right(values, options)]

    monkeypatch.setattr(collectives, "_reduced", wrong)
    many = kinds.KINDS[kind](kinds.tfdist_loops(make_strategy(2)))
    assert page.compare(one, many, "float32")[0] == "differs"
