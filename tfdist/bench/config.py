"""Reads the command line of `tfdist.bench` into a `BenchConfig`, without TensorFlow."""

import dataclasses
import importlib.util
import pathlib

from tfdist import data, models
from tfdist.bench.rounds import LEAST_STEPS
from tfdist.options.command_line import read_given
from tfdist.options.fields import option
from tfdist.options.run import OPTIMIZERS, read_steps
from tfdist.options.step import AUTO, StepOptions
from tfdist.process.errors import UsageError
from tfdist.process.nearest import did_you_mean

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
# Those of `tfdist.train` that Keras' own look-up knows, and newer ones.
KERAS_OPTIMIZERS = (*(name for name in OPTIMIZERS if name not in ("lamb", "lars")), "muon")
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
    """The settings of a measurement; each field is a flag."""

    model: str = option("mlp", help="A name of tfdist.models, or module:build_fn, () → uncompiled keras.Model.")
    dataset: str = option(
        "synthetic", help="A name for tfdist.data.load; synthetic makes rows of --input_shape and --classes."
    )
    data_dir: str | None = option(None, help="The folder that holds the data set.")
    input_shape: tuple[int, ...] = option((64,), help="The shape of one synthetic row.")
    classes: int = option(10, help="The number of classes of synthetic rows.")
    rows: int = option(6400, help="The number of synthetic rows.")
    replica_batch: int = option(
        64, help="Rows of a step on each replica: N replicas get N times as many, so that each has as much to do."
    )
    optimizer: str = option("adam", help="A name that Keras knows.")
    versus: tuple[str, ...] = option(
        ("keras_fit", "keras_fit_k50", "plain_loop", "plain_loop_xla"), help="Contenders besides tfdist_fit."
    )
    scale: tuple[int, ...] = option((1,), help="Numbers of workers, each a process on this machine.")
    replicas: tuple[int, ...] = option((1,), help="Numbers of replicas in one process.")
    steps_per_execution: int = option(50, help="Steps per call of tfdist.")
    jit_compile: bool | str = option(AUTO, words=(AUTO,), help="XLA for tfdist; auto: where it was measured to help.")
    sync_batchnorm: bool = option(
        True,
        help="tfdist's BatchNormalization over all replicas' rows; otherwise each has its own statistics, as the "
        "others do.",
    )
    rounds: int = option(7, help="How often each contender is measured.")
    seconds: float = option(0.3, help="How long each measurement takes, at least.")
    least_steps: int = option(
        LEAST_STEPS, help="Steps of the shortest measurement and of half the warm-up; fewer if a step takes long."
    )
    seed: int = option(0, help="The seed of weights and data.")
    against: str | None = option(None, help="An older bench.json: exit code 1 if tfdist is slower now.")
    out_dir: str | None = option(None, help="The folder to write to.", shown="the next free runs/bench-<n>")
    profile_steps: str | None = option(None, help="Steps to profile for TensorBoard, as 100:110.")
    timeout_seconds: float = option(300.0, help="How long one contender's start or measurement may take.")

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
            hint = did_you_mean(unknown[0], (name for name in CONTENDERS if name != OURS))
            raise UsageError(f"--versus names {unknown[0]!r}. Use some of {known}; {OURS} is always measured.{hint}")
        if self.rounds < 2:
            raise UsageError(f"--rounds is {self.rounds}. Use 2 or more: one measurement does not show its noise.")
        StepOptions(jit_compile=self.jit_compile)
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
        elif not _can_be_found(module):
            raise UsageError(
                f"--model is {self.model!r}, but there is no module {module!r} here. Start in a folder where it can be "
                "imported, or set PYTHONPATH."
            )
        if self.optimizer.lower() not in KERAS_OPTIMIZERS:
            hint = did_you_mean(self.optimizer, KERAS_OPTIMIZERS)
            known = ", ".join(KERAS_OPTIMIZERS)
            raise UsageError(f"--optimizer is {self.optimizer!r}. Use one of {known}.{hint}")
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


def _can_be_found(module):
    try:
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False


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
    return BenchConfig(**read_given((BenchConfig,), arguments, command="tfdist.bench", usage=USAGE.format(contenders)))


def from_dict(fields):
    """Returns the `BenchConfig` of a dict that went through JSON."""
    return BenchConfig(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})


def _plain(value):
    return list(value) if isinstance(value, tuple) else value
