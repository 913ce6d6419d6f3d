"""Where the seconds of an epoch went, with a clock that the test sets."""

import pytest

from tfdist.callbacks.epoch_seconds import EpochSeconds


@pytest.fixture
def now():
    """The time, in seconds; set it through its only element."""
    return [50.0]


def play(seconds, now):
    """Plays two calls of 2 s, a checkpoint of 0.5 s between them, and a validation of 3 s."""
    seconds.on_epoch_begin(0)
    for batch in range(2):
        seconds.on_train_batch_begin(batch)
        now[0] += 2
        seconds.on_train_batch_end(batch)
        now[0] += 7
    seconds.on_checkpoint(1, 0.5)
    seconds.on_test_begin()
    now[0] += 3
    seconds.on_test_end()


def test_each_second_has_a_kind_and_the_next_epoch_begins_at_zero(now):
    seconds = EpochSeconds(clock=lambda: now[0])
    play(seconds, now)
    assert seconds.epoch() == {"training": 4.0, "checkpoint": 0.5, "validation": 3.0}
    seconds.on_epoch_begin(1)
    assert seconds.epoch() == {"training": 0.0}
