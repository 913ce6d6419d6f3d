"""The command line of `tfdist.train` → a `RunConfig`, without TensorFlow."""

import functools

from absl import flags

from tfdist.assembly.recipes import load_recipe
from tfdist.options.command_line import read_given
from tfdist.options.run import (
    JIT_COMPILES,
    OPTIMIZERS,
    PRECISIONS,
    PREEMPTION_NOTICES,
    RESUMES,
    SCALINGS,
    STRATEGIES,
    RunConfig,
)
from tfdist.options.step import COMPRESSIONS, EXCHANGES
from tfdist.process.errors import UsageError

USAGE = """Trains a Keras model on the devices at hand: several replicas give what one device gives.

  python -m tfdist.train                                  digits, on the best strategy for this machine
  python -m tfdist.train --strategy=mirrored --replicas=2
  python -m tfdist.train --recipe=recipes/mnist_mirrored.py --data_dir=~/tensorflow_datasets
  TF_CONFIG='{...}' python -m tfdist.train --strategy=multi_worker --run_dir=DIR   # one such command per worker

Flags (one on the command line wins over the recipe):
"""


class _StepsParser(flags.ArgumentParser):
    """Reads a whole number, or "auto"."""

    syntactic_help = "a whole number, or auto"

    def parse(self, argument):
        """Returns the number or "auto"."""
        try:
            return argument if argument == "auto" else int(argument)
        except ValueError:
            raise UsageError("value should be a whole number, or auto") from None


def make_flags():
    """Makes the flags of `tfdist.train`. One that is not given is None, because only given flags change the recipe."""
    values = flags.FlagValues()

    def add(define, name, *args):
        define(name, None, *args, flag_values=values)

    add(flags.DEFINE_string, "recipe", "A Python file whose function `recipe` returns a RunConfig.")
    add(flags.DEFINE_enum, "strategy", STRATEGIES, "The tf.distribute strategy.")
    add(flags.DEFINE_integer, "replicas", "Number of GPUs, or of logical CPU devices, to mirror over.")
    add(flags.DEFINE_string, "model", "A name from tfdist.models.")
    add(flags.DEFINE_string, "dataset", "A name for tfdist.data.load: digits, a TFDS name, …")
    add(flags.DEFINE_string, "data_dir", "The folder that holds the data set.")
    add(flags.DEFINE_bool, "download", "Let TensorFlow Datasets download missing data.")
    add(flags.DEFINE_integer, "global_batch", "Rows of a step over all replicas.")
    add(flags.DEFINE_integer, "replica_batch", "Rows of a step on each replica, in place of --global_batch.")
    add(flags.DEFINE_integer, "epochs", "Passes over the training split.")
    add(flags.DEFINE_integer, "steps", "Steps of the whole run, in place of --epochs.")
    add(flags.DEFINE_enum, "optimizer", OPTIMIZERS, "The Keras optimizer.")
    add(flags.DEFINE_float, "learning_rate", "The learning rate of the optimizer.")
    add(flags.DEFINE_integer, "base_batch", "Rows of a step for which --learning_rate was tuned: scales it.")
    add(flags.DEFINE_enum, "scaling", SCALINGS, "How the learning rate is scaled with the global batch.")
    add(flags.DEFINE_float, "warmup_epochs", "Epochs in which the learning rate rises from 0.")
    add(flags.DEFINE_enum, "precision", PRECISIONS, "Keras' dtype policy.")
    add(flags.DEFINE_integer, "seed", "Seed of weights, order and random layers.")
    steps = functools.partial(flags.DEFINE, _StepsParser())
    add(steps, "steps_per_execution", "Steps in one call of the compiled program; auto: about half a second.")
    add(
        flags.DEFINE_enum,
        "compression",
        COMPRESSIONS,
        "The type in which replicas exchange gradients, to halve the bytes.",
    )
    add(flags.DEFINE_enum, "exchange", EXCHANGES, "How replicas exchange gradients; auto: the faster way for each.")
    add(flags.DEFINE_enum, "jit_compile", JIT_COMPILES, "Whether to compile with XLA; auto: where it helps.")
    add(flags.DEFINE_bool, "sync_batchnorm", "BatchNormalization over the rows of all replicas (true).")
    add(
        flags.DEFINE_string,
        "run_dir",
        "The run's folder; by default the next free runs/<recipe>-<n>.",
    )
    add(flags.DEFINE_integer, "checkpoint_every_steps", "Steps between checkpoints.")
    add(flags.DEFINE_integer, "keep_checkpoints", "How many of the newest checkpoints to keep, beside the best.")
    add(
        flags.DEFINE_enum,
        "resume",
        RESUMES,
        "auto: go on from a checkpoint in the folder; never: refuse one; must: require one.",
    )
    add(flags.DEFINE_string, "profile_steps", "Steps to profile for TensorBoard, such as 100:110.")
    add(flags.DEFINE_float, "start_seconds", "How long the workers wait for one another at the start.")
    add(flags.DEFINE_enum, "preemption_notice", PREEMPTION_NOTICES, "The cloud that may take this machine away.")
    add(flags.DEFINE_bool, "deterministic", "Use TensorFlow's deterministic kernels.")
    return values


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
    return read_given(make_flags(), arguments, command="tfdist.train", usage=USAGE, module=__name__)
