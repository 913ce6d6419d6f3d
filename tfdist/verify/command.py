"""`python -m tfdist.verify module:build_fn`: checks that a model trains on N replicas as on one device."""

import importlib
import importlib.util
import logging
import os
import sys

from tfdist.process.errors import TfdistError, UsageError, user_code
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
    if importlib.util.find_spec(config.module.split(".")[0]) is None:
        raise UsageError(
            f"there is no module {config.module!r} here. Start in a folder where it can be imported, or set PYTHONPATH."
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
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


def find_function(module, name):
    """Imports a module and returns its function.

    Raises:
        ValueError: the module cannot be imported, or has no such function.
    """
    with user_code(f"importing {module}"):
        found = importlib.import_module(module)
    build = getattr(found, name, None)
    if not callable(build):
        raise UsageError(f"{module} has no function {name!r}. Define one that returns (model, data).")
    return build
