"""Builds every model of `tfdist.models`, counts its parameters and multiply-adds, and writes the table beside others'.

Usage: python tests/full/model_sizes.py [part of a row's name ...]; exit code 1 where a row is not as it should be. With
parts of names only those rows are run, and nothing is written.
"""

import math
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path[:0] = [str(pathlib.Path(__file__).parents[1]), str(pathlib.Path(__file__).parents[2])]

from full import evidence  # noqa: E402
from support import multiply_adds  # noqa: E402
from support.published_models import PUBLISHED, Published, agrees  # noqa: E402

from tfdist import models  # noqa: E402
from tfdist.models.catalog import MODELS  # noqa: E402

COMMAND = "python tests/full/model_sizes.py"
TITLE = """Sizes of the models

Parameters are the trainable ones; multiply-adds are counted in the traced prediction of one row. A row is as it should
be if both are those that `python -m tfdist.models` lists, and round to the published ones."""
COLUMNS = (
    *("model", "as it should be", "parameters", "published", "multiply-adds", "published, 10⁹"),
    *("moving statistics", "source"),
)


def run(name):
    """Builds a model; returns its cells."""
    entry = MODELS[name]
    model = models.build(name, classes=entry.classes, input_shape=entry.input_shape)
    parameters, statistics = _count(model.trainable_weights), _count(model.non_trainable_weights)
    measured = multiply_adds.count(model)
    published = PUBLISHED.get(name, Published(parameters, None, ""))
    right = (
        (parameters, measured) == (entry.parameters, entry.multiply_adds)
        and agrees(parameters, published.parameters, 1e6)
        and (published.multiply_adds is None or agrees(measured, published.multiply_adds, 1e9))
    )
    known = published.parameters if published.source else ""
    figures = (parameters, known, measured, published.multiply_adds or "", statistics)
    return [name, "yes" if right else "NO", *figures, published.source]


def _count(weights):
    return sum(math.prod(weight.shape) for weight in weights)


def main(parts):
    """Runs the rows; returns the exit code."""
    page = {"name": "model_sizes", "title": TITLE, "command": COMMAND, "columns": COLUMNS}
    return evidence.measure(MODELS, run, parts, **page)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
