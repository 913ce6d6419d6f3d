"""The command line of `tfdist.verify` → a `VerifyConfig`, without TensorFlow."""

import dataclasses

from tfdist.options.command_line import read_given
from tfdist.options.fields import option
from tfdist.process.errors import UsageError

USAGE = """Checks that a model trains on N replicas as on one device.

  python -m tfdist.verify module:build_fn
  python -m tfdist.verify my_models.py:build_fn --replicas=4 --steps=5

Trains your model for a few steps on one device with plain Keras and on logical replicas with tfdist.fit, on even and
uneven batches, and compares loss, gradients, weights and metrics. Exit code 1: they differ.

Flags:
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """The settings of a comparison; each field is a flag."""

    target: str = option(
        "",
        help="module:build_fn or file.py:build_fn, also without --target=: a function () → (model, data). The model is "
        "a compiled keras.Model; the data are (x, y) arrays, a tf.data.Dataset or a tfdist Source.",
    )
    replicas: int = option(2, help="Number of logical CPU devices to train on.")
    steps: int = option(3, help="Steps of a training.")
    seed: int = option(0, help="Seed of the weights.")
    sync_batchnorm: bool = option(
        True, help="BatchNormalization over the rows of all replicas; otherwise as the model has it."
    )

    def __post_init__(self):
        if not self.target:
            raise UsageError("there is nothing to verify. Write module:build_fn or file.py:build_fn.")
        if not (self.module and self.function.isidentifier()):
            raise UsageError(f"{self.target!r} names no function. Write module:build_fn or file.py:build_fn.")
        if self.replicas < 2:
            raise UsageError(f"--replicas is {self.replicas}. Use 2 or more.")
        if self.steps < 1:
            raise UsageError(f"--steps is {self.steps}. Use 1 or more.")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"--seed is {self.seed}. Use a whole number in 0..{2**32 - 1}.")

    @property
    def module(self):
        """The name of the module that has the function."""
        return self.target.partition(":")[0]

    @property
    def function(self):
        """The name of the function."""
        return self.target.partition(":")[2]


def read_config(arguments):
    """Reads a command line.

    Args:
        arguments: what follows `python -m tfdist.verify`.

    Returns:
        A `VerifyConfig`.

    Raises:
        SystemExit: help was asked for, and printed.
        ValueError: a flag or a value is wrong; the message says which and what to do.
    """
    given = read_given((VerifyConfig,), arguments, command="tfdist.verify", usage=USAGE, first="target")
    return VerifyConfig(**given)
