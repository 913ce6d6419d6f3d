"""What the checks found → the lines of a page. All functions are pure."""

import dataclasses
import math
import textwrap
from collections.abc import Sequence

from tfdist.doctor.acceptance.checks import TOLERANCES

RIGHT, DIFFERS, FAILED, MEASURED, NOT_HERE = "right", "differs", "failed", "measured", "not here"
_ROWS, _COLUMNS = 60, 100
_DETAIL = 44


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one check found in one place.

    Attributes:
        place: "machine" or "split".
        name: the check's name.
        result: "right", "differs", "failed", "measured" or "not here".
        detail: the figure, the message or the reason.
        seconds: how long it took; 0 if it was not done.
    """

    place: str
    name: str
    result: str
    detail: str = ""
    seconds: float = 0.0


def is_right(outcomes):
    """Returns whether something was checked, and nothing differed or failed."""
    results = {outcome.result for outcome in outcomes}
    return bool(results & {RIGHT, MEASURED}) and not results & {DIFFERS, FAILED}


def head(about, versions, machine, when, cluster=None):
    """Returns the first lines of the page.

    Args:
        about: the answer of `TrainingPlace.about`, or of a child that failed.
        versions: package → version or None.
        machine: one line about the system, its processors and its memory.
        when: the date and the time.
        cluster: the `Cluster` that the environment describes, or None.
    """
    gpus = ", ".join(f"{about['gpus'].count(name)} x {name}" for name in sorted(set(about.get("gpus", ()))))
    devices = gpus or ("TPU" if about.get("tpu") else "no GPU")
    halves = "two logical GPUs of one card" if gpus else "two logical CPU devices"
    tolerances = ", ".join(f"{dtype} {size:.1e}" for dtype, size in TOLERANCES.items())
    first = [
        f"tfdist acceptance, {when}",
        ", ".join(f"{name} {version or 'is not installed'}" for name, version in versions.items()),
        f"{machine}; {', '.join([devices, *about.get('libraries', ())])}",
        f"Two places: machine {_describe(about)}; split is {halves}, mirrored.{_without(cluster)}",
        "A figure is the largest difference from plain Keras on one CPU device, divided by the largest number of the "
        f"same weight, output or metric. Half of a type's digits must agree: {tolerances}.{_matrix_type(about)} The "
        "seconds of a check leave out the start of processes and plain Keras; those of the last line have all.",
    ]
    wrapped = [part for line in first for part in textwrap.wrap(line, _COLUMNS)]
    return [*wrapped, "", _columns("place", "check", "result", "figure", "seconds")]


def row(outcome):
    """Returns the line of an outcome; a long detail is cut, and stands whole at the end of the page."""
    seconds = f"{outcome.seconds:.1f}" if outcome.seconds else "-"
    detail = textwrap.shorten(outcome.detail, _DETAIL, placeholder=" …")
    return _columns(outcome.place, outcome.name, outcome.result, detail, seconds)


def end(outcomes, rows_before, *, seconds, interrupted=False):
    """Returns the last lines of the page: what was cut, as far as a page has room, and the sum.

    Args:
        outcomes: all `Outcome`s.
        rows_before: the number of lines of the head.
        seconds: how long all has taken, with the start of processes.
        interrupted: whether the user ended the checks.
    """
    cut = [outcome for outcome in outcomes if len(outcome.detail) > _DETAIL]
    messages = {}
    for outcome in cut:
        # The same message may have come from several checks.
        messages.setdefault(outcome.detail, []).append(f"{outcome.place} {outcome.name}")
    details = [
        line
        for message, names in messages.items()
        for line in textwrap.wrap(f"{', '.join(names)}: {message}", _COLUMNS, max_lines=4, placeholder=" …")
    ]
    room = _ROWS - rows_before - len(outcomes) - 3
    return [*(["", *details[:room]] if details and room > 0 else []), "", _sum_up(outcomes, seconds, interrupted)]


def compare(one, many, dtype):
    """Compares the numbers of two trainings; returns (result, detail) of an `Outcome`.

    Args:
        one, many: name → list of numbers, the first of one CPU device.
        dtype: the key of the tolerance.
    """
    sizes, others = ({name: len(values) for name, values in each.items()} for each in (one, many))
    if sizes != others:
        return FAILED, f"what is trained differs in number or size: {sizes} and {others}"
    largest = max(_size(values) for values in one.values())
    # A weight that hardly changes, such as a bias before BatchNormalization, is nothing but rounding.
    gaps = [
        _size([a - b for a, b in zip(one[name], many[name], strict=True)]) / max(_size(one[name]), 0.1 * largest, 1e-30)
        for name in one
    ]
    gap, limit = max(gaps), TOLERANCES[dtype]
    at_most = f"at most {limit:.1e} ({dtype})"
    return (RIGHT, f"{gap:.1e}, {at_most}") if gap <= limit else (DIFFERS, f"by {gap:.1e}, {at_most}")


def describe_speed(names, speeds):
    """Returns the detail of two measured loops: the speed of the first, and its ratio to that of the second."""
    first, second = (speeds[name] for name in names)
    ratio = f", {first / second:.2f} times {names[1]}" if second else f"; {names[1]} fails here"
    return f"{first:,.0f} rows/s{ratio}"


def describe_error(answer):
    """Returns the detail of a child that gave no answer: its error and, if it was late, what to do."""
    late = ". It hangs, or needs more time: raise --timeout_seconds." if answer.get("deadline") else ""
    return f"{answer['error']}{late}"


def _size(values: Sequence[float]) -> float:
    """Returns the largest absolute value, infinite where one of them is not finite."""
    return max((abs(value) if math.isfinite(value) else math.inf for value in values), default=0.0)


def _describe(about):
    if "error" in about:
        return f"has no strategy, because {describe_error(about).rstrip('.')}"
    replicas = about["replicas"]
    return f"is {about['strategy']}, {replicas} replica{'s' if replicas > 1 else ''}"


def _without(cluster):
    if cluster is None or cluster.size == 1:
        return ""
    return f" {cluster.source} describes {cluster.size} workers, but the checks use this machine alone."


def _matrix_type(about):
    if about.get("tpu"):
        return " A TPU multiplies float32 matrices in bfloat16, so that its tolerance is bfloat16's."
    return " TF32 is off but in the check tf32." if about.get("tf32") else ""


def _columns(place, name, result, detail, seconds):
    return f"{place:<8} {name:<21} {result:<9} {detail:<{_DETAIL}} {seconds:>7}".rstrip()


def _sum_up(outcomes, seconds, interrupted):
    counts = {
        result: sum(outcome.result == result for outcome in outcomes)
        for result in (RIGHT, MEASURED, DIFFERS, FAILED, NOT_HERE)
    }
    told = ", ".join(f"{count} {result}" for result, count in counts.items() if count) or "nothing was checked"
    verdict = "INTERRUPTED" if interrupted else "ALL RIGHT" if is_right(outcomes) else "NOT RIGHT"
    return f"{verdict}: {told}; {seconds:.0f} s in all."
