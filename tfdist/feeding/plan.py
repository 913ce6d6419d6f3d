"""The steps that each call runs: plain arithmetic over step numbers."""

import dataclasses
import math

# A compiled call counts its steps in 32 bits.
_MOST_PER_CALL = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Span:
    """Consecutive steps within one epoch: first..last-1, counted from the epoch's beginning.

    `last` is infinite where the number of steps is unknown; `done` is the number of steps before `first`, counted from
    the run's beginning.
    """

    epoch: int
    first: int
    last: float
    done: int


def spans(done, *, steps_per_epoch, total, batches=None):
    """Cuts the steps done..total-1 of a run at the ends of epochs.

    Args:
        done: steps done before.
        steps_per_epoch: steps in an epoch.
        total: steps of the whole run.
        batches: batches in one pass over the data, if an epoch ends where the data end; its other steps are left out.

    Yields:
        One `Span` per epoch; the first and the last may cover only a part of their epoch.
    """
    while done < total:
        epoch, first = divmod(done, steps_per_epoch)
        begin = epoch * steps_per_epoch
        last = min(steps_per_epoch, total - begin)
        done, span = begin + last, Span(epoch, first, last, done)
        if batches:
            _, batch = place(Span(epoch, 0, last, begin), steps_per_epoch=steps_per_epoch, batches=batches)
            span = dataclasses.replace(span, last=min(last, batches - batch))
        if span.first < span.last:
            yield span


def place(span, *, steps_per_epoch, batches):
    """Returns (pass, batch) of a span's first step, where no epoch crosses the end of the data.

    Args:
        span: a `Span`.
        steps_per_epoch: steps in an epoch.
        batches: batches in one pass over the data.
    """
    epochs_per_pass = -(-batches // steps_per_epoch)
    number, epoch = divmod(span.epoch, epochs_per_pass)
    return number, epoch * steps_per_epoch + span.first


def calls(span, steps_per_call, every=(), at=(), before=None):
    """Cuts a span into calls, none longer than `steps_per_call()`, none across a multiple of `every` or a step of `at`.

    Args:
        span: a `Span`.
        steps_per_call: a function, called before each call, that returns its largest number of steps.
        every: numbers of steps; a call must end at each multiple of them, counted from the run's beginning.
        at: single steps, counted from the run's beginning, after which a call must end.
        before: the steps of the run before the span's epoch; None if each earlier epoch had all of its steps.

    Yields:
        (first step, number of steps), the first counted from the epoch's beginning.
    """
    first = span.first
    before = span.done - span.first if before is None else before
    while first < span.last:
        done = before + first
        limits = [number - done % number for number in every] + [step - done for step in at if step > done]
        count = min(steps_per_call(), _MOST_PER_CALL, span.last - first, *limits)
        yield first, int(count)
        first += count


UNKNOWN = math.inf
