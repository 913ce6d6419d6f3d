"""`python -m tfdist.verify module:build_fn`: checks that a model trains on N replicas as on one device."""

import argparse
import importlib
import importlib.util
import logging
import os
import sys

from tfdist.process.errors import TfdistError, UsageError, user_code

# Exit codes: 0 for equal, 1 for different, 2 for a mistake that the user can correct.
EQUAL, DIFFERENT, MISTAKE = 0, 1, 2

DESCRIPTION = """Trains your model for a few steps on one device with plain Keras and on logical replicas with
tfdist.fit, on even and uneven batches, and compares loss, gradients, weights and metrics."""
TARGET = (
    "a function () → (model, data): a compiled keras.Model, and (x, y) arrays, a tf.data.Dataset or a tfdist Source"
)


def main(arguments=None):
    """Runs the command line, and returns the exit code."""
    options = read_arguments(arguments)
    try:
        return run(options)
    except TfdistError as error:
        print(f"tfdist.verify: {error}", file=sys.stderr)
        return MISTAKE


def read_arguments(arguments=None):
    """Reads a command line, without TensorFlow; exits with code 2 and a message if it is wrong."""
    parser = argparse.ArgumentParser("python -m tfdist.verify", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("target", metavar="module:build_fn", help=TARGET)
    parser.add_argument("--replicas", type=int, default=2, help="number of logical CPU devices to train on (2)")
    parser.add_argument("--steps", type=int, default=3, help="steps of a training (3)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights (0)")
    parser.add_argument("--no_sync_batchnorm", action="store_true", help="leave BatchNormalization as the model has it")
    options = parser.parse_args(arguments)
    module, colon, function = options.target.partition(":")
    if not (module and colon and function.isidentifier()):
        parser.error(f"{options.target!r} names no function. Write module:build_fn.")
    if options.replicas < 2:
        parser.error(f"--replicas is {options.replicas}. Use 2 or more.")
    if options.steps < 1:
        parser.error(f"--steps is {options.steps}. Use 1 or more.")
    if not 0 <= options.seed < 2**32:
        parser.error(f"--seed is {options.seed}. Use a whole number in 0..{2**32 - 1}.")
    return options


def run(options):
    """Compares, prints the findings, and returns the exit code.

    Raises:
        ValueError: the function cannot be found, or does not return what it should.
    """
    module, _, function = options.target.partition(":")
    if importlib.util.find_spec(module.split(".")[0]) is None:
        raise UsageError(
            f"there is no module {module!r} here. Start in a folder where it can be imported, or set PYTHONPATH."
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow would warn at each eager step that it is slow; here, steps are eager on purpose.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    from tfdist.verify import check, report

    # Before the user's module, which may start TensorFlow's runtime.
    strategy = check.logical_replicas(options.replicas)
    build = find_function(module, function)
    found = check.verify_model(
        build, strategy, steps=options.steps, seed=options.seed, sync_batchnorm=not options.no_sync_batchnorm
    )
    print(report.describe(found, options.target))
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
