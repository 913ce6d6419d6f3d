"""The command line of `tfdist.train` → a `RunConfig`, without TensorFlow."""

import dataclasses

from tfdist.assembly.recipe_file import load_recipe
from tfdist.options.command_line import read_given
from tfdist.options.fields import option
from tfdist.options.run import RunConfig
from tfdist.process.errors import UsageError

USAGE = """Trains a Keras model on the devices at hand: several replicas give what one device gives.

  python -m tfdist.train                                  digits, on the best strategy for this machine
  python -m tfdist.train --strategy=mirrored --replicas=2
  python -m tfdist.train --recipe=recipes/classification/mnist_mirrored.py --data_dir=~/tensorflow_datasets
  TF_CONFIG='{...}' python -m tfdist.train --strategy=multi_worker --run_dir=DIR   # one such command per worker

Flags (one on the command line wins over the recipe):
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecipeChoice:
    """What a command line has besides the fields of a `RunConfig`."""

    recipe: str | None = option(None, help="A Python file whose function `recipe` returns a RunConfig.")


# The classes whose fields are the flags.
OPTIONS = (RecipeChoice, RunConfig)


def read_config(arguments):
    """Reads a command line.

    Args:
        arguments: what follows `python -m tfdist.train`.

    Returns:
        A `RunConfig`.

    Raises:
        SystemExit: help was asked for and is printed.
        ValueError: a flag, a value or the recipe is wrong; the message says which one, and what to do.
    """
    given = _given(arguments)
    if {"global_batch", "replica_batch"} <= given.keys():
        raise UsageError("--global_batch and --replica_batch: each says how many rows a step has. Give one of them.")
    recipe = given.pop("recipe", None)
    config = RunConfig() if recipe is None else load_recipe(recipe)
    return config.replace(**given)


def read_files(arguments):
    """Returns the user's own files that a command line names: its recipe, if it has one."""
    recipe = _given(arguments).get("recipe")
    return [] if recipe is None else [recipe]


def _given(arguments):
    """Returns a dict: the name of each given flag → its value."""
    return read_given(OPTIONS, arguments, command="tfdist.train", usage=USAGE)
