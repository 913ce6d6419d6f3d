"""Loops that are measured in turns: each one trains, and only Keras' own may fail."""

import keras
import pytest

from tfdist import training
from tfdist.doctor.acceptance import loops_speed


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(loops_speed, "_STEPS", 4)
    monkeypatch.setattr(loops_speed, "_ROUNDS", 2)


def fails(*_, **__):
    raise RuntimeError("no such strategy")


@pytest.mark.slow
def test_each_loop_trains_in_turn_and_stock_fit_may_fail(make_strategy, monkeypatch):
    turns = []
    seconds = loops_speed._seconds
    monkeypatch.setattr(loops_speed, "_seconds", lambda name, *rest: turns.append(name) or seconds(name, *rest))
    names = ["tf_data", "arrays", "stock_fit"]
    speeds = loops_speed.rows_per_second(names, make_strategy(2))
    assert turns == [*names, *names[::-1]]
    assert list(speeds) == names and min(speeds.values()) > 0
    monkeypatch.setattr(keras.Model, "fit", fails)
    assert loops_speed.rows_per_second(["stock_fit"], make_strategy(1)) == {"stock_fit": 0.0}


def test_a_loop_of_tfdist_that_fails_is_an_error(make_strategy, monkeypatch):
    monkeypatch.setattr(training, "fit", fails)
    with pytest.raises(RuntimeError, match="no such strategy"):
        loops_speed.rows_per_second(["arrays"], make_strategy(1))
