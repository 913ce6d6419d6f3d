"""Checks the arguments of a builder, before it makes any layer."""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

from tfdist.process.errors import UsageError
from tfdist.process.nearest import did_you_mean


def check_classes(model: str, classes: Any) -> None:
    """Raises ValueError unless `classes` is a whole number of at least 2."""
    if not _is_count(classes) or classes < 2:
        raise UsageError(f"models: {model}: classes is {classes!r}. Use a whole number of at least 2.")


def check_shape(model: str, input_shape: Any) -> tuple[int, ...]:
    """Returns the shape of one row as a tuple; raises ValueError unless it is static.

    Args:
        model: Name of the model, for the message.
        input_shape: One or more whole numbers of at least 1.
    """
    dimensions = tuple(input_shape) if isinstance(input_shape, Sequence) else ()
    if not dimensions or not all(_is_count(d) for d in dimensions):
        raise UsageError(
            f"models: {model}: input_shape is {input_shape!r}. "
            "Give the shape of one row, without the batch, as whole numbers of at least 1."
        )
    return tuple(int(d) for d in dimensions)


def check_image(model: str, input_shape: Any, *, smallest: int, cure: str) -> tuple[int, ...]:
    """Returns (H, W, C) as a tuple; raises ValueError where the network does not fit on it.

    Args:
        model: Name of the model, for the message.
        input_shape: (H, W, C), channels last.
        smallest: The least H and W, in pixels.
        cure: What to do about a smaller image, for the message.
    """
    shape = check_shape(model, input_shape)
    if len(shape) != 3:
        raise UsageError(
            f"models: {model}: input_shape is {shape}, which has {len(shape)} dimension(s). "
            "Give (height, width, channels), without the batch."
        )
    if min(shape[:2]) < smallest:
        raise UsageError(
            f"models: {model}: input_shape is {shape}, but this network needs at least "
            f"{smallest} x {smallest} pixels. {cure}"
        )
    return shape


def check_widths(model: str, option: str, widths: Any) -> tuple[int, ...]:
    """Returns the widths as a tuple; raises ValueError unless all are whole numbers of at least 1.

    Args:
        model: Name of the model, for the message.
        option: Name of the option, for the message.
        widths: One width per layer.
    """
    if not isinstance(widths, list | tuple) or not all(_is_count(width) for width in widths):
        raise UsageError(
            f"models: {model}: {option} is {widths!r}. Give a tuple of whole numbers of at least 1, one per layer."
        )
    return tuple(int(width) for width in widths)


def check_weight_decay(model: str, weight_decay: Any) -> None:
    """Raises ValueError unless `weight_decay` is a finite number of at least 0."""
    is_number = isinstance(weight_decay, Real) and not isinstance(weight_decay, bool)
    if not is_number or not math.isfinite(weight_decay) or weight_decay < 0:
        raise UsageError(
            f"models: {model}: weight_decay is {weight_decay!r}. Use a finite number of at least 0, such as 1e-4."
        )


def check_dropout(model: str, rate: Any, option: str = "dropout") -> None:
    """Raises ValueError unless `rate` is a number with 0 ≤ rate < 1."""
    if not isinstance(rate, Real) or isinstance(rate, bool) or not 0 <= float(rate) < 1:
        raise UsageError(f"models: {model}: {option} is {rate!r}. Use a number with 0 ≤ {option} < 1, such as 0.5.")


def check_factor(model: str, option: str, factor: Any) -> None:
    """Raises ValueError unless `factor` is a finite number above 0."""
    if not isinstance(factor, Real) or isinstance(factor, bool) or not 0 < float(factor) < math.inf:
        raise UsageError(f"models: {model}: {option} is {factor!r}. Use a finite number above 0, such as 1.0.")


def check_choice(model: str, option: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raises ValueError unless `value` is one of `choices`."""
    if value not in choices:
        known = " or ".join(map(repr, choices))
        raise UsageError(f"models: {model}: {option} is {value!r}. Use {known}.{did_you_mean(value, choices)}")


def check_flag(model: str, option: str, value: Any) -> None:
    """Raises ValueError unless `value` is True or False."""
    # The text "False" from a command line would count as true.
    if not isinstance(value, bool):
        raise UsageError(f"models: {model}: {option} is {value!r}. Use True or False.")


def _is_count(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1
