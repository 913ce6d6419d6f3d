"""A recipe's file → its `RunConfig`, without TensorFlow."""

import importlib.util
import pathlib
import sys

from tfdist.options.run import RunConfig
from tfdist.process.errors import UsageError, user_code


def load_recipe(path):
    """Runs a recipe's file and its function `recipe`.

    Raises:
        ValueError: there is no such file or function, or it does not return a `RunConfig`.
        UserCodeError: the file or its function raised an error.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        is_a_name = bool(path.name) and not path.suffix
        hint = " A recipe is a Python file; examples are in the folder recipes of tfdist's repository."
        raise UsageError(f"--recipe={path}: there is no such file.{hint * is_a_name}")
    # A name of its own: a recipe called keras.py must not stand in for Keras.
    spec = importlib.util.spec_from_file_location(f"tfdist_recipe_{path.stem}", path)
    if spec is None:
        raise UsageError(f"--recipe={path}: not a Python file. Give one that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    # So that functions of the recipe can be pickled and found by name.
    sys.modules[spec.name] = module
    with user_code(f"--recipe={path}"):
        spec.loader.exec_module(module)
    if not callable(getattr(module, "recipe", None)):
        raise UsageError(f"--recipe={path}: it has no function `recipe`. Define one that returns a tfdist.RunConfig.")
    with user_code(f"--recipe={path}"):
        config = module.recipe()
    if not isinstance(config, RunConfig):
        raise UsageError(f"--recipe={path}: recipe() returned {type(config).__name__}. Return a tfdist.RunConfig.")
    return config
