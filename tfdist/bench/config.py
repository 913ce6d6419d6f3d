"""Reads the command line of `tfdist.bench` into a `BenchConfig`, without TensorFlow."""

import dataclasses
import pathlib

from absl import flags

from tfdist import data, models
from tfdist.bench.rounds import LEAST_STEPS
from tfdist.options.command_line import read_given
from tfdist.options.run import read_steps
from tfdist.process.errors import UsageError

# Name → description, for the help.
CONTENDERS = {
    "tfdist_fit": "tfdist.fit, --steps_per_execution steps per call",
    "tfdist_all_reduce": "the same, with every gradient reduced (several workers)",
    "tfdist_bfloat16": "the same, with gradients rounded to bfloat16 between the workers",
    "keras_fit": "stock model.fit with default arguments",
    "keras_fit_k50": "stock model.fit with steps_per_execution=50",
    "plain_loop": "a hand-written tf.function over tf.range, strategy.run on several replicas",
    "plain_loop_xla": "the same with its step compiled by XLA (one device)",
    "plain_multi_worker": "the custom loop of TensorFlow's multi-worker guide, one call per step",
}
OURS, STOCK = "tfdist_fit", "keras_fit"
# The fields that may differ between two reports that can be compared.
_MAY_DIFFER = (
    *("versus", "scale", "replicas", "rounds", "seconds", "least_steps"),
    *("against", "out_dir", "data_dir", "profile_steps", "timeout_seconds"),
)

USAGE = """Measures how fast tfdist and other contenders train a model, in interleaved rounds of one run.

  python -m tfdist.bench                                                    a small MLP, one device
  python -m tfdist.bench --model=cnn --dataset=digits --replicas=1,2 --versus=keras_fit,plain_loop
  python -m tfdist.bench --model=my_module:build_fn --scale=1,2 --versus=plain_multi_worker
  python -m tfdist.bench --against=old/bench.json

Prints a table; writes bench.json and, if matplotlib is installed, bench.png. Exit code 1: slower than --against.

Contenders:
{}

Flags:
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """The settings of a measurement.

    Attributes:
        model: a name of `tfdist.models`, or "module:build_fn", a function () → uncompiled `keras.Model`.
        dataset: a name for `tfdist.data.load`; "synthetic" makes rows of `input_shape` and `classes`.
        data_dir: the folder that holds the data set.
        input_shape: the shape of one synthetic row.
        classes: the number of classes of synthetic rows.
        rows: the number of synthetic rows.
        replica_batch: rows of a step on each replica: N replicas get N times as many, so that each has as much to do.
        optimizer: a name that Keras knows.
        versus: names of CONTENDERS besides tfdist's own.
        scale: numbers of workers, which are processes on this machine.
        replicas: numbers of replicas in one process.
        steps_per_execution: steps per call of tfdist.
        jit_compile: tfdist's argument: "true", "false" or "auto".
        sync_batchnorm: tfdist's argument; with False each replica has its own statistics, as the others do.
        rounds: the number of measurements of each contender.
        seconds: the minimum time of a measurement.
        least_steps: the steps of the shortest measurement and of half the warm-up; use fewer if a step takes long.
        seed: the seed of weights and data.
        against: an older bench.json, or None.
        out_dir: the folder to write to; None for the next free runs/bench-<n>.
        profile_steps: "first:last", steps to write a profile of, or None.
        timeout_seconds: the time limit of one contender's start or measurement.
    """

    model: str = "mlp"
    dataset: str = "synthetic"
    data_dir: str | None = None
    input_shape: tuple[int, ...] = (64,)
    classes: int = 10
    rows: int = 6400
    replica_batch: int = 64
    optimizer: str = "adam"
    versus: tuple[str, ...] = ("keras_fit", "keras_fit_k50", "plain_loop", "plain_loop_xla")
    scale: tuple[int, ...] = (1,)
    replicas: tuple[int, ...] = (1,)
    steps_per_execution: int = 50
    jit_compile: str = "auto"
    sync_batchnorm: bool = True
    rounds: int = 7
    seconds: float = 0.3
    least_steps: int = LEAST_STEPS
    seed: int = 0
    against: str | None = None
    out_dir: str | None = None
    profile_steps: str | None = None
    timeout_seconds: float = 300.0

    def __post_init__(self):
        for name in ("classes", "rows", "replica_batch", "steps_per_execution", "rounds", "least_steps"):
            self._check_whole(name, (getattr(self, name),))
        for name in ("input_shape", "scale", "replicas"):
            self._check_whole(name, getattr(self, name))
        for name in ("seconds", "timeout_seconds"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UsageError(f"--{name} is {getattr(self, name)}. Use a number above 0.")
        if unknown := [name for name in self.versus if name not in CONTENDERS or name == OURS]:
            known = ", ".join(name for name in CONTENDERS if name != OURS)
            raise UsageError(f"--versus names {unknown[0]!r}. Use some of {known}; {OURS} is always measured.")
        if self.rounds < 2:
            raise UsageError(f"--rounds is {self.rounds}. Use 2 or more: one measurement does not show its noise.")
        if self.jit_compile not in ("auto", "true", "false"):
            raise UsageError(f"--jit_compile is {self.jit_compile!r}. Use true, false or auto.")
        if self.profile_steps is not None:
            read_steps(self.profile_steps)
        if self.against is not None and not pathlib.Path(self.against).is_file():
            raise UsageError(f"--against={self.against}: there is no such file.")
        self._check_names()

    def _check_whole(self, name, values):
        if not values or any(value < 1 for value in values):
            raise UsageError(f"--{name} is {','.join(map(str, values))}. Use whole numbers from 1.")

    def _check_names(self):
        module, colon, function = self.model.partition(":")
        if colon and not (module and function.isidentifier()):
            raise UsageError(f"--model is {self.model!r}. Use a name of tfdist.models, or module:build_fn.")
        if not colon:
            models.check_name(self.model)
        data.check_name(self.dataset, data_dir=self.data_dir)

    @property
    def points(self):
        """Returns the measured (workers, replicas): several replicas in one process, or workers of one replica."""
        alone = [(1, replicas) for replicas in self.replicas if 1 in self.scale or replicas > 1]
        return [*alone, *((workers, 1) for workers in self.scale if workers > 1)]

    @property
    def names(self):
        """Returns the contenders' names, tfdist's first."""
        return [OURS, *dict.fromkeys(self.versus)]

    @property
    def warm_up_steps(self):
        """Half of the steps after which all must have the same loss; whole calls, as stock Keras runs no others."""
        return 50 if "keras_fit_k50" in self.versus else self.least_steps

    def measured(self):
        """Returns, as JSON types, the fields that two reports must share to be compared."""
        fields = dataclasses.asdict(self)
        return {name: _plain(value) for name, value in fields.items() if name not in _MAY_DIFFER}


def make_flags():
    """Makes the flags of `tfdist.bench`, each None where it is not given."""
    values = flags.FlagValues()

    def add(define, name, text):
        define(name, None, text, flag_values=values)

    add(flags.DEFINE_string, "model", "A name of tfdist.models, or module:build_fn, () → keras.Model (mlp).")
    add(flags.DEFINE_string, "dataset", "A name for tfdist.data.load (synthetic).")
    add(flags.DEFINE_string, "data_dir", "The folder that holds the data set.")
    add(flags.DEFINE_list, "input_shape", "The shape of one synthetic row (64).")
    add(flags.DEFINE_integer, "classes", "The number of classes of synthetic rows (10).")
    add(flags.DEFINE_integer, "rows", "The number of synthetic rows (6400).")
    add(flags.DEFINE_integer, "replica_batch", "Rows of a step on each replica (64).")
    add(flags.DEFINE_string, "optimizer", "A name that Keras knows (adam).")
    add(flags.DEFINE_list, "versus", "Contenders besides tfdist_fit (all for one device).")
    add(flags.DEFINE_list, "scale", "Numbers of workers, each a process on this machine (1).")
    add(flags.DEFINE_list, "replicas", "Numbers of replicas in one process (1).")
    add(flags.DEFINE_integer, "steps_per_execution", "Steps per call of tfdist (50).")
    add(flags.DEFINE_string, "jit_compile", "XLA for tfdist: true, false or auto (auto).")
    add(flags.DEFINE_boolean, "sync_batchnorm", "tfdist's BatchNormalization over all replicas' rows (true).")
    add(flags.DEFINE_integer, "rounds", "How often each contender is measured (7).")
    add(flags.DEFINE_float, "seconds", "How long each measurement takes, at least (0.3).")
    add(flags.DEFINE_integer, "least_steps", "Steps of the shortest measurement (8).")
    add(flags.DEFINE_integer, "seed", "The seed of weights and data (0).")
    add(flags.DEFINE_string, "against", "An older bench.json: exit code 1 if tfdist is slower now.")
    add(flags.DEFINE_string, "out_dir", "The folder to write to (the next free runs/bench-<n>).")
    add(flags.DEFINE_string, "profile_steps", "Steps to profile for TensorBoard, as 100:110.")
    add(flags.DEFINE_float, "timeout_seconds", "How long one contender's start or measurement may take (300).")
    return values


def read_config(arguments):
    """Reads a command line.

    Args:
        arguments: what follows `python -m tfdist.bench`.

    Returns:
        A `BenchConfig`.

    Raises:
        SystemExit: help was asked for, and printed.
        ValueError: a flag or a value is wrong; the message says which and what to do.
    """
    contenders = "\n".join(f"  {name:20} {what}" for name, what in CONTENDERS.items())
    usage = USAGE.format(contenders)
    given = read_given(make_flags(), arguments, command="tfdist.bench", usage=usage, module=__name__)
    given |= {name: _whole_numbers(name, given[name]) for name in ("scale", "replicas", "input_shape") if name in given}
    if "versus" in given:
        given["versus"] = tuple(given["versus"])
    return BenchConfig(**given)


def from_dict(fields):
    """Returns the `BenchConfig` of a dict that went through JSON."""
    return BenchConfig(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})


def _whole_numbers(name, texts):
    if not all(text.strip().isdecimal() for text in texts):
        raise UsageError(f"--{name} is {','.join(texts)}. Use whole numbers from 1, with commas between.")
    return tuple(int(text) for text in texts)


def _plain(value):
    return list(value) if isinstance(value, tuple) else value
