"""Checks how gradients cross the network, with planted figures; `test_multi_worker.py` has the clock of two workers."""

import json

import numpy as np
import pytest
from support import jobs

import tfdist
from tfdist.internals.access import runtime
from tfdist.synchronous.exchange import choice as exchange_choice
from tfdist.synchronous.exchange.choice import ExchangeSeconds

pytestmark = pytest.mark.core

FASTER = {"factors": ExchangeSeconds(2.0, 1.0), "all_reduce": ExchangeSeconds(1.0, 2.0)}


@pytest.fixture
def network(monkeypatch):
    """Makes two replicas of one process act as two workers; returns a function that plants a verdict."""

    def plant(faster):
        asked = []

        def find(strategy, kind, variables, wire):
            asked.append(kind)
            return FASTER[faster]

        monkeypatch.setattr(exchange_choice, "_measure", find)
        return asked

    monkeypatch.setattr(exchange_choice, "is_between_workers", lambda strategy: True)
    return plant


def train(strategy, **arguments):
    """Trains the wide MLP; returns (weights, lines about the exchange)."""
    with jobs.lines_of_tfdist() as said:
        model, _ = jobs.train(strategy, jobs.wide_source(), make_model=jobs.make_wide_mlp, **arguments)
    return jobs.weights_of(model), [line for line in said if line.startswith("exchange")]


@pytest.fixture
def expected(float64):
    plain, _ = jobs.train_plainly(jobs.wide_source(), make_model=jobs.make_wide_mlp)
    return jobs.weights_of(plain)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("faster", "outcome"), [("factors", ": 1 of 4 gradients (97%"), ("all_reduce", "no factors are")]
)
def test_each_exchange_wins_where_it_is_faster_and_gives_one_devices_weights(
    network, make_strategy, expected, faster, outcome
):
    network(faster)
    weights, lines = train(make_strategy(2))
    np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-9)
    assert lines[0].startswith("exchange=auto, measured: 1 of 128 × 256: all-reduce") and lines[0].endswith(
        f"{faster.replace('_', '-')}."
    )
    assert outcome in lines[1]


def test_the_clock_measures_both_ways(network, make_strategy, expected, monkeypatch):
    verdicts = []
    measure = exchange_choice._measure
    monkeypatch.setattr(exchange_choice, "_measure", lambda *about: verdicts.append(measure(*about)) or verdicts[0])
    weights, _ = train(make_strategy(2))
    np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-9)
    assert all(0 < seconds < 60 for verdict in verdicts for seconds in verdict) and len(verdicts) == 1


def test_a_run_that_goes_on_keeps_what_was_chosen(network, make_strategy, expected, tmp_path):
    network("factors")
    train(make_strategy(2), run_dir=tmp_path, epochs=1)
    asked = network("all_reduce")
    weights, lines = train(make_strategy(2), run_dir=tmp_path)
    np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-9)
    assert not asked
    assert lines[0] == f"exchange=auto: the choice is read from {tmp_path / 'exchange.json'}."
    assert ": 1 of 4" in lines[1]


def test_a_second_fit_of_a_model_measures_nothing_anew(network, make_strategy, float64):
    asked = network("factors")
    strategy = make_strategy(2)
    model, _ = jobs.train(strategy, jobs.wide_source(), make_model=jobs.make_wide_mlp)
    tfdist.fit(model, jobs.wide_source(), verbose=0)
    assert len(asked) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda kept: kept[:40], "cannot be read"),
        (lambda kept: "[]", "cannot be read"),
        (lambda kept: json.dumps(json.loads(kept) | {"found": []}), "cannot be read"),
        (lambda kept: json.dumps(json.loads(kept) | {"about": {"replicas": 9}}), "is of other workers"),
    ],
)
def test_what_was_kept_of_something_else_is_chosen_anew(network, make_strategy, float64, tmp_path, damage, says):
    network("factors")
    train(make_strategy(2), run_dir=tmp_path, epochs=1)
    kept = tmp_path / "exchange.json"
    kept.write_text(damage(kept.read_text()))
    asked = network("all_reduce")
    with jobs.lines_of_tfdist() as said:
        train(make_strategy(2), run_dir=tmp_path)
    assert len(asked) == 1 and any(says in line for line in said)
    assert json.loads(kept.read_text())["found"][0]["by_factors"] is False


def test_deterministic_kernels_fix_the_choice(network, make_strategy, float64, monkeypatch):
    asked = network("factors")
    monkeypatch.setattr(runtime, "is_deterministic", lambda: True)
    _, lines = train(make_strategy(2))
    assert not asked and lines[0].startswith("exchange=auto, estimated: ")


def test_batches_of_unknown_size_are_reduced(network, make_strategy, float64):
    network("factors")
    with jobs.lines_of_tfdist() as said:
        jobs.train(make_strategy(2), jobs.tf_data(seed=1), epochs=1)
    assert any(line.startswith("exchange=auto: the factors of 2 gradients are not used") for line in said)


def test_factors_with_more_bytes_than_the_weight_are_no_candidates(network, make_strategy, float64):
    asked = network("factors")
    # A weight of 8 KiB shares a collective with others.
    jobs.train(make_strategy(2), jobs.small_source(34), epochs=1)
    # 300 rows of 384 numbers have more bytes than 128 × 256 of them.
    x = np.zeros([600, 128])
    jobs.train(
        make_strategy(2), tfdist.data.from_arrays(x, x[:, 0], global_batch=600), make_model=jobs.make_wide_mlp, epochs=1
    )
    assert not asked
