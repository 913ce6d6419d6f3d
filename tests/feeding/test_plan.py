"""The steps that each call runs: every step once, and no call across a step after which one must end."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdist.feeding import plan
from tfdist.feeding.plan import Span

quick = settings(max_examples=200, deadline=2000)
few = st.integers(0, 120)
per_epoch = st.integers(1, 25)


def cut_spans(done, total, steps_per_epoch):
    """Returns the spans; an endless plan is cut off, and so fails."""
    spans = plan.spans(done, steps_per_epoch=steps_per_epoch, total=total)
    return list(itertools.islice(spans, 1000))


def cut_calls(span, steps_per_call, every=(), most=1000):
    return list(itertools.islice(plan.calls(span, lambda: steps_per_call, every), most))


@quick
@given(few, few, per_epoch)
def test_the_spans_hold_the_steps_left_once_and_in_order(done, total, steps_per_epoch):
    steps = [
        span.epoch * steps_per_epoch + step
        for span in cut_spans(done, total, steps_per_epoch)
        for step in range(span.first, span.last)
    ]
    assert steps == list(range(done, total))


@quick
@given(few, few, per_epoch)
def test_a_span_is_never_empty_and_stays_in_its_epoch(done, total, steps_per_epoch):
    spans = cut_spans(done, total, steps_per_epoch)
    assert all(0 <= span.first < span.last <= steps_per_epoch for span in spans)
    assert all(span.done == span.epoch * steps_per_epoch + span.first for span in spans)
    epochs = [span.epoch for span in spans]
    assert epochs == sorted(set(epochs))


@pytest.mark.parametrize(
    ("done", "total", "steps_per_epoch", "spans"),
    [
        (0, 6, 3, [Span(0, 0, 3, 0), Span(1, 0, 3, 3)]),
        (0, 2, 3, [Span(0, 0, 2, 0)]),
        (4, 8, 3, [Span(1, 1, 3, 4), Span(2, 0, 2, 6)]),
        (3, 4, 3, [Span(1, 0, 1, 3)]),
        (6, 6, 3, []),
        (9, 6, 3, []),
    ],
)
def test_a_run_is_cut_at_the_ends_of_its_epochs(done, total, steps_per_epoch, spans):
    assert cut_spans(done, total, steps_per_epoch) == spans


@quick
@given(few, few, per_epoch, per_epoch)
def test_where_epochs_end_with_the_data_they_read_pass_after_pass(done, total, steps_per_epoch, batches):
    spans = list(plan.spans(done, steps_per_epoch=steps_per_epoch, total=total, batches=batches))
    sizes = {"steps_per_epoch": steps_per_epoch, "batches": batches}
    for span, following in itertools.pairwise(spans):
        number, batch = plan.place(span, **sizes)
        end = batch + span.last - span.first
        assert 0 <= batch < end <= batches
        assert plan.place(following, **sizes) == ((number + 1, 0) if end == batches else (number, end))
        assert span.done == span.epoch * steps_per_epoch + span.first


@pytest.mark.parametrize(
    ("steps_per_epoch", "batches", "lengths"),
    [(9, 10, [9, 1, 9, 1]), (3, 10, [3, 3, 3, 1]), (12, 10, [10, 10, 10, 10]), (5, 10, [5, 5, 5, 5])],
)
def test_epochs_are_as_long_as_in_keras_where_the_data_end(steps_per_epoch, batches, lengths):
    spans = plan.spans(0, steps_per_epoch=steps_per_epoch, total=4 * steps_per_epoch, batches=batches)
    assert [span.last - span.first for span in spans] == lengths


@st.composite
def cases(draw):
    first = draw(st.integers(0, 24))
    last = draw(st.integers(first + 1, first + 25))
    span = Span(draw(st.integers(0, 6)), first, last, done=draw(few))
    every = draw(st.lists(st.integers(1, 30), max_size=3))
    return span, draw(st.integers(1, 30)), every


@quick
@given(cases())
def test_the_calls_hold_the_steps_of_a_span_once_and_in_order(case):
    span, *_ = case
    steps = [first + i for first, count in cut_calls(*case) for i in range(count)]
    assert steps == list(range(span.first, span.last))


@quick
@given(cases())
def test_a_call_has_at_least_one_step_and_no_more_than_asked_for(case):
    _, steps_per_call, _ = case
    assert all(1 <= count <= steps_per_call for _, count in cut_calls(*case))


def test_a_call_has_no_more_steps_than_32_bits_can_count():
    assert cut_calls(Span(0, 0, plan.UNKNOWN, 0), 2**40, most=2) == [(0, 2**31 - 1), (2**31 - 1, 2**31 - 1)]


@quick
@given(cases())
def test_no_call_goes_on_beyond_a_step_after_which_it_must_end(case):
    span, _, every = case
    for first, count in cut_calls(*case):
        done = [span.done + first - span.first + i + 1 for i in range(count)]
        # Such a step may end a call, but not lie inside it.
        assert not [step for step in done[:-1] for number in every if step % number == 0]


@quick
@given(cases())
def test_a_call_ends_early_only_for_a_reason(case):
    span, steps_per_call, every = case
    for first, count in cut_calls(*case):
        done = span.done + first - span.first + count
        looked_at = any(done % number == 0 for number in every)
        assert count == steps_per_call or first + count == span.last or looked_at


@pytest.mark.parametrize(
    ("span", "steps_per_call", "every", "expected"),
    [
        (Span(0, 0, 10, 0), 4, (), [(0, 4), (4, 4), (8, 2)]),
        (Span(0, 3, 10, 3), 4, (), [(3, 4), (7, 3)]),
        (Span(0, 0, 10, 0), 4, (3,), [(0, 3), (3, 3), (6, 3), (9, 1)]),
        # Ten steps are done: multiples of 4 are 12, 16 and 20.
        (Span(1, 0, 10, 10), 100, (4,), [(0, 2), (2, 4), (6, 4)]),
        (Span(1, 5, 9, 15), 100, (4,), [(5, 1), (6, 3)]),
        (Span(0, 0, 6, 0), 100, (2, 3), [(0, 2), (2, 1), (3, 1), (4, 2)]),
    ],
)
def test_a_span_is_cut_into_calls(span, steps_per_call, every, expected):
    assert cut_calls(span, steps_per_call, every) == expected


def test_a_call_ends_at_each_single_step_asked_for():
    assert cut_calls(Span(1, 0, 10, 10), 100, (4,), 1000) == [(0, 2), (2, 4), (6, 4)]
    assert list(plan.calls(Span(1, 0, 10, 10), lambda: 100, (), (3, 10, 13, 17, 40))) == [(0, 3), (3, 4), (7, 3)]


def test_each_call_may_have_another_number_of_steps():
    lengths = iter([1, 2, 4, 8])
    assert list(plan.calls(Span(0, 0, 12, 0), lambda: next(lengths))) == [(0, 1), (1, 2), (3, 4), (7, 5)]


def test_where_the_end_is_unknown_calls_go_on():
    span = Span(0, 0, math.inf, 0)
    assert cut_calls(span, 4, (6,), most=5) == [(0, 4), (4, 2), (6, 4), (10, 2), (12, 4)]
