"""Computes the learning rate and the length of the warm-up for a global batch, without TensorFlow."""

import math
from collections.abc import Callable
from fractions import Fraction
from numbers import Integral, Real
from typing import TypeGuard

from tfdist.process.errors import UsageError

# Rule → factor of the learning rate for a global batch `ratio` times the base batch.
_FACTORS: dict[str, Callable[[float], float]] = {"linear": float, "square_root": math.sqrt}


def scale_learning_rate(
    learning_rate: float, *, global_batch: int, base_batch: int = 256, rule: str = "linear"
) -> float:
    """Scales a learning rate that was found for one batch size to another.

    "linear" is Goyal et al. 2017 (arXiv:1706.02677): k times the rows, k times the rate. "square_root" keeps the
    variance of the update: Krizhevsky 2014 (arXiv:1404.5997), Hoffer et al. 2017 (arXiv:1705.08741).

    Args:
        learning_rate: the rate that is right for `base_batch`.
        global_batch: rows of a step, over all replicas; derive it from the number of replicas of this run.
        base_batch: rows of a step for which `learning_rate` was found.
        rule: "linear" or "square_root".

    Returns:
        The learning rate for `global_batch`, a float.

    Raises:
        ValueError: a number out of range, or an unknown rule.

    Example:
        ```python
        import tfdist

        strategy = tfdist.choose_strategy()
        global_batch = 64 * strategy.num_replicas_in_sync
        rate = tfdist.optimizers.scale_learning_rate(0.1, global_batch=global_batch, base_batch=256)
        ```
    """
    place = "scale_learning_rate"
    if not is_number(learning_rate) or learning_rate <= 0:
        raise UsageError(f"{place}: learning_rate is {learning_rate!r}. Use a finite number above 0.")
    _check_whole(place, "global_batch", global_batch, least=1)
    _check_whole(place, "base_batch", base_batch, least=1)
    if rule not in _FACTORS:
        raise UsageError(f"{place}: rule is {rule!r}. Use one of {', '.join(_FACTORS)}.")
    return float(learning_rate) * _FACTORS[rule](int(global_batch) / int(base_batch))


def warmup_steps(
    *,
    steps: int | None = None,
    examples: int | None = None,
    epochs: float | None = None,
    global_batch: int | None = None,
    rows: int | None = None,
) -> int:
    """Returns the length of a warm-up in steps, rounded up.

    Args:
        steps: the length in steps.
        examples: the length in rows; needs `global_batch`.
        epochs: the length in epochs, also a fraction of one; needs `rows` and `global_batch`.
        global_batch: rows of a step, over all replicas.
        rows: rows of the training set; an epoch has ceil(rows / global_batch) steps, the last of them a partial batch.

    Returns:
        The number of steps; 0 for no warm-up.

    Raises:
        ValueError: not exactly one length, a number out of range, or one that is missing or has no effect.

    Example:
        ```python
        from tfdist import optimizers

        assert optimizers.warmup_steps(epochs=5, rows=50_000, global_batch=1000) == 250
        ```
    """
    unit, length = _only_length(steps=steps, examples=examples, epochs=epochs)
    if unit == "epochs":
        if not is_number(length) or length < 0:
            raise UsageError(f"warm-up: epochs is {length!r}. Use a finite number from 0.")
    else:
        _check_whole("warm-up", unit, length, least=0)
    rows_of_step = _read_need(unit, length, "global_batch", global_batch, needed=unit != "steps")
    rows_of_epoch = _read_need(unit, length, "rows", rows, needed=unit == "epochs")
    if unit == "steps":
        return int(length)
    if unit == "examples":
        return -(-int(length) // rows_of_step)
    # Through its decimal digits: 2.2 * 25 is above 55 in floating point, and would be rounded up to 56.
    return math.ceil(Fraction(str(float(length))) * -(-rows_of_epoch // rows_of_step))


def describe(
    learning_rate: float,
    *,
    global_batch: int,
    base_batch: int = 256,
    rule: str = "linear",
    steps: int | None = None,
    examples: int | None = None,
    epochs: float | None = None,
    rows: int | None = None,
) -> str:
    """Returns in one line what `scale_learning_rate` and `warmup_steps` derive from the same arguments.

    Args:
        learning_rate, global_batch, base_batch, rule: as in `scale_learning_rate`.
        steps, examples, epochs, rows: as in `warmup_steps`; no length for no warm-up.

    Returns:
        A line such as "learning rate 0.1 for 256 rows -> 0.4 for 1024 rows (linear), warm-up over 6250 examples =
        7 steps".

    Raises:
        ValueError: as those two functions do.

    Example:
        ```python
        from tfdist import optimizers

        print(optimizers.describe(0.1, global_batch=1024, epochs=5, rows=50_000))
        ```
    """
    scaled = scale_learning_rate(learning_rate, global_batch=global_batch, base_batch=base_batch, rule=rule)
    line = f"learning rate {learning_rate:g} for {base_batch} rows"
    if base_batch != global_batch:
        line += f" -> {scaled:g} for {global_batch} rows ({rule})"
    if rows is None and steps is None and examples is None and epochs is None:
        return line
    needed = global_batch if steps is None else None
    derived = warmup_steps(steps=steps, examples=examples, epochs=epochs, rows=rows, global_batch=needed)
    unit, length = _only_length(steps=steps, examples=examples, epochs=epochs)
    text = f"{length:g}" if isinstance(length, float) else length
    warmup = f"{line}, warm-up over {text} {unit if length != 1 else unit[:-1]}"
    return warmup if unit == "steps" else f"{warmup} = {derived} steps"


def is_number(value: object) -> TypeGuard[float]:
    """Returns whether a value is a finite real number; True and False are not."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _only_length(**lengths: float | None) -> tuple[str, float]:
    given = {unit: length for unit, length in lengths.items() if length is not None}
    if len(given) != 1:
        lengths_given = " and ".join(f"{unit} is {length!r}" for unit, length in given.items()) or "no length is given"
        raise UsageError(f"warm-up: {lengths_given}. Give exactly one of {', '.join(lengths)}.")
    return next(iter(given.items()))


def _read_need(unit: str, length: float, name: str, value: int | None, *, needed: bool) -> int:
    """Returns a number that the length needs; 0 for one that it does not need, and that must be absent."""
    if not needed:
        if value is not None:
            raise UsageError(f"warm-up: {unit} is {length!r}, so {name} ({value!r}) has no effect. Leave it out.")
        return 0
    if value is None:
        raise UsageError(f"warm-up: {unit} is {length!r}, but {name} is missing. Give it too.")
    _check_whole("warm-up", name, value, least=1)
    return int(value)


def _check_whole(place: str, name: str, value: object, *, least: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
        raise UsageError(f"{place}: {name} is {value!r}. Use a whole number from {least}.")
