"""Checks that a worker that leaves after all have arrived at the end of a run is not reported as lost."""

import types

import pytest
import tensorflow as tf

from tfdist.training import peers, wait_for_all


@pytest.fixture
def last_vote(monkeypatch):
    """Returns a function that sets the outcome of the last vote of two workers."""

    def end_in(error):
        def vote(numbers, flags):
            if error:
                raise error
            return numbers, flags

        monkeypatch.setattr(peers, "worker_count", lambda strategy: 2)
        monkeypatch.setattr(peers, "make_vote", lambda strategy: vote)

    return end_in


@pytest.mark.parametrize("error", [None, tf.errors.UnavailableError(None, None, "Socket closed")])
def test_promise_21_a_worker_that_left_when_all_were_there_is_not_lost(last_vote, error):
    last_vote(error)
    wait_for_all(types.SimpleNamespace())


def test_another_error_of_the_last_vote_is_told(last_vote):
    last_vote(tf.errors.InternalError(None, None, "something else"))
    with pytest.raises(tf.errors.InternalError):
        wait_for_all(types.SimpleNamespace())
