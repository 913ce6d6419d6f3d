"""`python -m tfdist.models`: the table of the models. Imports neither TensorFlow nor Keras."""

import sys
from collections.abc import Sequence

from tfdist.models import check_name, names
from tfdist.models.catalog import MODELS
from tfdist.process.errors import UsageError
from tfdist.process.exits import MISTAKE
from tfdist.process.log import show

USAGE = """Lists the models that `--model` and `tfdist.models.build` take, with their sizes and options.

  python -m tfdist.models                    all of them
  python -m tfdist.models resnet50 vit_s16   these"""
LEGEND = """
Parameters are the trainable ones, with default options. Multiply-adds are those of the prediction of one row, as
published tables count them: convolutions, matrix products and attention; each is two floating-point operations."""
_COLUMNS = ("name", "parameters", "multiply-adds", "input", "classes", "options")
# The others hold numbers.
_ALIGNED_LEFT = ("name", "options")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code.

    Args:
        arguments: Names of models, none for all; by default those of this process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if any(argument in ("--help", "-h") for argument in arguments):
        show(USAGE)
        return 0
    try:
        for argument in arguments:
            if argument.startswith("-"):
                raise UsageError(f"models: there is no flag {argument}. Give names of models, or nothing for all.")
            check_name(argument)
    except UsageError as error:
        print(f"tfdist.{error}", file=sys.stderr)
        return MISTAKE
    show(render(arguments or names()))
    return 0


def render(listed: Sequence[str]) -> str:
    """Returns the table of some models, a line each, and what its columns mean."""
    rows = [_COLUMNS, *map(_row, listed)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(_aligned, _COLUMNS, row, widths)).rstrip() for row in rows)
    return "\n".join([*lines, LEGEND])


def _row(name: str) -> tuple[str, ...]:
    entry = MODELS[name]
    shape = "×".join(map(str, entry.input_shape))
    numbers = (f"{entry.parameters:,}", short(entry.multiply_adds), shape, str(entry.classes))
    return name, *numbers, ", ".join(entry.options)


def _aligned(column: str, cell: str, width: int) -> str:
    return cell.ljust(width) if column in _ALIGNED_LEFT else cell.rjust(width)


def short(count: int) -> str:
    """Returns a number of at least 1,000 in three digits, with K, M or G."""
    factor, unit = next((factor, unit) for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "K")) if count >= factor)
    scaled = count / factor
    decimals = 2 if scaled < 10 else 1 if scaled < 100 else 0
    return f"{scaled:.{decimals}f} {unit}"
