"""A recipe's file → its `RunConfig`, without TensorFlow."""

import importlib.util
import pathlib
import sys

from tfdist.options.run import RunConfig
from tfdist.process.errors import UsageError, user_code
from tfdist.process.nearest import nearest


def load_recipe(path):
    """Runs a recipe's file, and returns the `RunConfig` of its function `recipe`.

    Raises:
        ValueError: there is no such file or function, or it does not return a `RunConfig`.
        UserCodeError: the file or its function raised an error.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        is_a_name = bool(path.name) and not path.suffix
        hint = " Examples are in the folder recipes of tfdist's repository." if is_a_name else ""
        hint = _nearest(path) or hint
        raise UsageError(f"--recipe={path}: there is no such file. Give the path of a Python file.{hint}")
    module = import_file(path, f"--recipe={path}")
    if not callable(getattr(module, "recipe", None)):
        raise UsageError(f"--recipe={path}: it has no function `recipe`. Define one that returns a tfdist.RunConfig.")
    with user_code(f"--recipe={path}"):
        config = module.recipe()
    if not isinstance(config, RunConfig):
        raise UsageError(f"--recipe={path}: recipe() returned {type(config).__name__}. Return a tfdist.RunConfig.")
    return config


def import_file(path, who):
    """Runs a Python file, and returns its module.

    Args:
        path: a `pathlib.Path` to a file that exists.
        who: who asked for it, for messages.

    Raises:
        ValueError: it is no Python file.
        UserCodeError: the file raised an error.
    """
    # The module gets a name of its own, because a file called keras.py must not replace Keras.
    spec = importlib.util.spec_from_file_location(f"tfdist_file_{path.stem}", path)
    if spec is None:
        raise UsageError(f"{who}: this is not a Python file. Give one that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    # Registered so that functions of the file can be pickled and found by name.
    sys.modules[spec.name] = module
    with user_code(who):
        spec.loader.exec_module(module)
    return module


def _nearest(path):
    """Returns a suggestion: a file of that name, or nearly so, in its folder or among the recipes of the repository."""
    here = path.parent if path.parent.is_dir() else pathlib.Path()
    found = (sorted(here.glob("*.py")), sorted(pathlib.Path("recipes").glob("*/*.py")))
    files = {file.stem: file for folder in found for file in folder}
    name = path.stem if path.stem in files else nearest(path.stem, files)
    return f" Did you mean {str(files[name])!r}?" if name else ""
