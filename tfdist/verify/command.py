"""`python -m tfdist.verify module:build_fn`: checks that a model trains on N replicas as on one device."""

import ast
import importlib
import importlib.util
import logging
import pathlib
import sys

from tfdist.assembly.recipe_file import import_file
from tfdist.process.errors import TfdistError, UsageError, user_code
from tfdist.process.log import quiet_loading
from tfdist.process.nearest import did_you_mean
from tfdist.process.versions import check_tensorflow
from tfdist.verify.config import read_config

# Exit codes: 0 for equal, 1 for different, 2 for a mistake that the user can correct.
EQUAL, DIFFERENT, MISTAKE = 0, 1, 2


def main(arguments=None):
    """Runs the command line, and returns the exit code."""
    try:
        return run(read_config(sys.argv[1:] if arguments is None else arguments))
    except TfdistError as error:
        print(f"tfdist.verify: {error}", file=sys.stderr)
        return MISTAKE


def run(config):
    """Compares, prints the findings, and returns the exit code.

    Args:
        config: a `VerifyConfig`.

    Raises:
        ValueError: the function cannot be found, or does not return what it should.
    """
    source = find_source(config.module)
    check_name(source, config.module, config.function)
    check_tensorflow()
    with quiet_loading():
        import tensorflow  # noqa: F401
    # TensorFlow would warn at each eager step that it is slow; here, steps are eager on purpose.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    from tfdist.strategy import chosen
    from tfdist.verify import check, report

    # Before the user's module, which may start TensorFlow's runtime.
    strategy = check.logical_replicas(config.replicas)
    build = find_function(config.module, config.function)
    # It tries one device too, whatever the module has chosen.
    chosen.train_alone()
    found = check.verify_model(
        build, strategy, steps=config.steps, seed=config.seed, sync_batchnorm=config.sync_batchnorm
    )
    print(report.describe(found, config.target))
    return EQUAL if found.equal else DIFFERENT


def find_source(module):
    """Returns the path of the file of a module, or None where it has none; nothing is imported but its packages.

    Args:
        module: a module's name, or the path of a Python file.

    Raises:
        ValueError: there is no such file or module.
    """
    if module.endswith(".py"):
        path = pathlib.Path(module)
        if not path.is_file():
            raise UsageError(f"there is no file {module!r} here.{did_you_mean(module, _files(path.parent))}")
        return path
    with user_code(f"importing {module}"):
        try:
            spec = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            spec = None
    if spec is None:
        raise UsageError(
            f"there is no module {module!r} here. Start in a folder where it can be imported, or set PYTHONPATH."
            f"{did_you_mean(module, [pathlib.Path(file).stem for file in _files(pathlib.Path())])}"
        )
    return pathlib.Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None


def _files(folder):
    return [str(path) for path in sorted(folder.glob("*.py"))] if folder.is_dir() else []


def check_name(source, module, name):
    """Refuses a function that a module does not define, before TensorFlow is imported.

    Args:
        source: the path of the module's file; None, or a file that defines names in other ways, is not looked into.
        module, name: of the function.

    Raises:
        ValueError: the message names the nearest function.
    """
    try:
        tree = ast.parse(source.read_bytes()) if source else None
    except SyntaxError:
        # Python itself says where, when the module is imported.
        return
    nodes = list(ast.walk(tree)) if tree else []
    imported = [alias for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names]
    if tree is None or any(alias.name == "*" for alias in imported):
        return
    named = [node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    others = [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    known = {*named, *others, *(alias.asname or alias.name for alias in imported)}
    if name not in known and "__getattr__" not in named:
        raise _missing(module, name, [node.name for node in tree.body if isinstance(node, ast.FunctionDef)])


def _missing(module, name, functions):
    return UsageError(
        f"{module} has no function {name!r}. Define one that returns (model, data).{did_you_mean(name, functions)}"
    )


def find_function(module, name):
    """Imports a module, or runs a Python file, and returns its function.

    Raises:
        ValueError: it has no such function.
        UserCodeError: it raised an error.
    """
    if module.endswith(".py"):
        found = import_file(pathlib.Path(module), f"running {module}")
    else:
        with user_code(f"importing {module}"):
            found = importlib.import_module(module)
    build = getattr(found, name, None)
    if not callable(build):
        raise _missing(module, name, [key for key, value in vars(found).items() if callable(value)])
    return build
