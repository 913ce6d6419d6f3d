"""Examples per second, against figures computed by hand, with a clock that the test sets."""

import numpy as np
import pytest

from tfdist.callbacks.throughput import Throughput

BATCH = 10


def play(throughput, now, calls, between_seconds=0.0):
    """Plays an epoch of calls (first step, number of steps, seconds); returns the epoch's logs."""
    throughput.on_epoch_begin(0)
    for first, count, seconds in calls:
        throughput.on_train_batch_begin(first)
        now[0] += seconds
        throughput.on_train_batch_end(first + count - 1)
        now[0] += between_seconds
    logs = {}
    throughput.on_epoch_end(0, logs)
    return logs


@pytest.fixture
def now():
    """The time, in seconds; set it through its only element."""
    return [1000.0]


@pytest.fixture
def throughput(now):
    return Throughput(lambda first, count: BATCH * count, clock=lambda: now[0])


def test_the_first_call_is_left_out_since_it_compiles(throughput, now):
    logs = play(throughput, now, [(0, 1, 60.0), (1, 1, 0.5), (2, 1, 1.5)])
    assert logs == {"examples_per_second": 10.0}
    assert throughput.examples_per_second == 10.0


def test_later_epochs_count_from_their_first_call(throughput, now):
    play(throughput, now, [(0, 1, 60.0), (1, 1, 1.0)])
    logs = play(throughput, now, [(0, 1, 0.25), (1, 1, 0.25)])
    assert logs == {"examples_per_second": 40.0}
    assert throughput.examples_per_second == 30 / 1.5


def test_a_call_of_several_steps_counts_the_rows_of_them_all(throughput, now):
    logs = play(throughput, now, [(0, 4, 9.0), (4, 4, 2.0), (8, 2, 1.0)])
    assert logs == {"examples_per_second": 20.0}


def test_what_happens_between_calls_does_not_count(throughput, now):
    calls = [(0, 1, 9.0), (1, 1, 1.0), (2, 1, 1.0)]
    assert play(throughput, now, calls, between_seconds=100.0) == {"examples_per_second": 10.0}


def test_the_rows_are_asked_for_by_step(now):
    asked = []

    def rows(first, count):
        asked.append((first, count))
        return {(0, 4): 40, (4, 4): 40, (8, 3): 23}[first, count]

    throughput = Throughput(rows, clock=lambda: now[0])
    logs = play(throughput, now, [(0, 4, 9.0), (4, 4, 1.0), (8, 3, 2.0)])
    assert asked == [(0, 4), (4, 4), (8, 3)]
    assert logs == {"examples_per_second": 21.0}


def test_before_anything_was_measured_the_rate_is_0(throughput, now):
    assert throughput.examples_per_second == 0.0
    assert play(throughput, now, [(0, 1, 60.0)]) == {"examples_per_second": 0.0}
    assert throughput.examples_per_second == 0.0


def test_an_epochs_rate_is_rounded_to_a_tenth(throughput, now):
    logs = play(throughput, now, [(0, 1, 9.0), (1, 1, 3.0)])
    assert logs == {"examples_per_second": 3.3}
    assert throughput.examples_per_second == 10 / 3


def test_keras_may_leave_the_logs_out(throughput, now):
    play(throughput, now, [(0, 1, 9.0)])
    throughput.on_epoch_end(0)
    assert throughput.examples_per_second == 0.0


def test_the_clock_stops_when_the_calls_values_are_there(throughput, now):
    class Later:
        """A value that a device takes 4 seconds to compute."""

        def __array__(self, dtype=None, copy=None):
            now[0] += 4.0
            return np.zeros([])

    throughput.on_epoch_begin(0)
    for first in range(2):
        throughput.on_train_batch_begin(first)
        now[0] += 1.0
        throughput.on_train_batch_end(first, {"loss": Later()})
    assert throughput.examples_per_second == BATCH / 5
