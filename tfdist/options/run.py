"""The config of a run: frozen, typed, and checked once, before anything starts."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from tfdist.options import DEFAULT_GLOBAL_BATCH
from tfdist.options.checks import check_choice, is_whole
from tfdist.options.step import COMPRESSIONS, EXCHANGES
from tfdist.process.errors import UsageError

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker", "tpu")
PRECISIONS = ("float32", "float64", "mixed_float16", "mixed_bfloat16")
RESUMES = ("auto", "never", "must")
PREEMPTION_NOTICES = ("none", "gce", "azure")
JIT_COMPILES = ("auto", "true", "false")
SCALINGS = ("linear", "square_root")
OPTIMIZERS = (
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "ftrl",
    "lamb",
    "lars",
    "lion",
    "nadam",
    "rmsprop",
    "sgd",
)

DEFAULT_EPOCHS = 20

# Field → the fields that depend on it, and their values when the field changes.
_DEPENDENTS: Mapping[str, Mapping[str, Any]] = {
    "steps": {"epochs": None},
    "epochs": {"steps": None},
    "model": {"model_options": {}, "expected": {}},
    "dataset": {"dataset_options": {}, "data_dir": None, "expected": {}},
    "optimizer": {"optimizer_options": {}, "learning_rate": None, "base_batch": None, "warmup_epochs": 0},
    "global_batch": {"replica_batch": None},
    "replica_batch": {"global_batch": DEFAULT_GLOBAL_BATCH},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All options of what a run computes and where it writes; the defaults train the CNN on the digits.

    Attributes:
        name: names the run's folder: runs/<name>-<n>.
        model: a name of `tfdist.models`, or a function () → uncompiled `keras.Model`.
        model_options: further arguments of `tfdist.models.build`.
        dataset: a name for `tfdist.data.load`, or a function (split, global_batch, seed) → `Source`.
        dataset_options: further arguments of `tfdist.data.load`.
        data_dir: the folder of the data set, if it is not part of tfdist.
        download: whether TensorFlow Datasets may download missing data.
        test_split: the split that is evaluated; None for no evaluation.
        global_batch: rows of a step, over all replicas.
        replica_batch: rows of a step on each replica, in place of `global_batch`, which is then this number times the
            number of replicas.
        epochs, steps: the length of the run: one of them, or neither for 20 epochs; `steps` is the total.
        optimizer: a name of OPTIMIZERS, or a function () → `keras.optimizers.Optimizer`.
        learning_rate: of an optimizer given by name; None for Keras' default.
        base_batch: rows of a step for which `learning_rate` was found: it is scaled to the global batch; None for no
            scaling.
        scaling: "linear" or "square_root", as in `tfdist.optimizers.scale_learning_rate`.
        warmup_epochs: epochs, or a fraction of one, in which the learning rate rises from 0.
        optimizer_options: further arguments of an optimizer given by name.
        loss, metrics: as in `keras.Model.compile`.
        precision: Keras' dtype policy.
        strategy, replicas: as in `tfdist.choose_strategy`.
        seed: of weights, order and random layers.
        steps_per_execution: steps in one call, or "auto" for as many as take about half a second; callbacks for batches
            run between calls.
        compression: "bfloat16" or "float16", in which gradients are exchanged in half the bytes, or "none".
        exchange: how replicas exchange gradients: "all_reduce", some by "factors", or "auto" for the faster of them.
        jit_compile: "true", "false", or "auto" for XLA where it was measured to help; see `tfdist.fit`.
        sync_batchnorm: whether BatchNormalization takes its statistics over the rows of all replicas.
        deterministic: whether to use TensorFlow's deterministic kernels, where they differ.
        run_dir: the run's folder; None for the next free runs/<name>-<n>.
        checkpoint_every_steps: steps between checkpoints; None for one at the end of each epoch.
        keep_checkpoints: how many of the newest checkpoints are kept, beside the best.
        resume: "auto", "never" or "must".
        profile_steps: "first:last", the steps whose profile TensorFlow writes for TensorBoard: those after `first`, up
            to and with `last`; None for no profile.
        start_seconds: how long workers wait for one another at the start, before they report the absent ones.
        preemption_notice: the cloud to ask whether it will take this machine away, "gce" or "azure"; if so, the run
            saves and stops, as on SIGTERM.
        expected: the results that the run has reached before, such as {"accuracy": 0.98}: recorded, not enforced.
    """

    name: str = "digits_cnn"
    model: str | Callable[[], Any] = "cnn"
    model_options: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"batch_norm": True})
    dataset: str | Callable[[str, int, int], Any] = "digits"
    dataset_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    data_dir: str | None = None
    download: bool = False
    test_split: str | None = "test"
    global_batch: int = DEFAULT_GLOBAL_BATCH
    replica_batch: int | None = None
    epochs: int | None = None
    steps: int | None = None
    optimizer: str | Callable[[], Any] = "adam"
    learning_rate: float | None = 2e-3
    base_batch: int | None = None
    scaling: str = "linear"
    warmup_epochs: float = 0
    optimizer_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    loss: str = "sparse_categorical_crossentropy"
    metrics: tuple[str, ...] = ("accuracy",)
    precision: str = "float32"
    strategy: str = "auto"
    replicas: int | None = None
    seed: int = 0
    steps_per_execution: int | str = "auto"
    compression: str = "none"
    exchange: str = "auto"
    jit_compile: str = "auto"
    sync_batchnorm: bool = True
    deterministic: bool = False
    run_dir: str | None = None
    checkpoint_every_steps: int | None = None
    keep_checkpoints: int = 3
    resume: str = "auto"
    profile_steps: str | None = None
    start_seconds: float = 120.0
    preemption_notice: str = "none"
    expected: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"accuracy": 0.98})

    def __post_init__(self):
        check_choice(self, "strategy", STRATEGIES)
        check_choice(self, "precision", PRECISIONS)
        check_choice(self, "resume", RESUMES)
        check_choice(self, "compression", COMPRESSIONS)
        check_choice(self, "exchange", EXCHANGES)
        check_choice(self, "jit_compile", JIT_COMPILES)
        check_choice(self, "preemption_notice", PREEMPTION_NOTICES)
        check_choice(self, "scaling", SCALINGS)
        if not callable(self.optimizer):
            check_choice(self, "optimizer", OPTIMIZERS)
        for field in ("epochs", "steps", "replicas", "replica_batch", "base_batch", "checkpoint_every_steps"):
            self._check_positive(field, optional=True)
        for field in ("global_batch", "keep_checkpoints"):
            self._check_positive(field)
        if self.steps_per_execution != "auto":
            self._check_positive("steps_per_execution", alternative=", or 'auto'")
        if not is_whole(self.seed) or not 0 <= self.seed < 2**32:
            raise UsageError(f"seed is {self.seed!r}. Use a whole number from 0 to {2**32 - 1}.")
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise UsageError(f"learning_rate is {self.learning_rate}. Use a number above 0.")
        if not 0 < self.start_seconds < math.inf:
            raise UsageError(f"start_seconds is {self.start_seconds}. Use a number above 0.")
        if not 0 <= self.warmup_epochs < math.inf:
            raise UsageError(f"warmup_epochs is {self.warmup_epochs}. Use a number from 0.")
        if self.profile_steps is not None:
            read_steps(self.profile_steps)
        for field in ("data_dir", "run_dir"):
            # An unset shell variable leaves an empty value; that is not a request for the default.
            if getattr(self, field) == "":
                raise UsageError(f"{field} is empty. Give a folder, or leave it out.")
        self._check_together()

    def _check_positive(self, field, *, optional=False, alternative=""):
        value = getattr(self, field)
        if optional and value is None:
            return
        if not is_whole(value) or value < 1:
            raise UsageError(f"{field} is {value!r}. Use a whole number from 1{alternative}.")

    def _check_together(self):
        if self.epochs is not None and self.steps is not None:
            raise UsageError(
                f"epochs is {self.epochs} and steps is {self.steps}: both say how long to train. Give one of them."
            )
        if self.replica_batch is not None and self.global_batch != DEFAULT_GLOBAL_BATCH:
            raise UsageError(
                f"global_batch is {self.global_batch} and replica_batch is {self.replica_batch}: each says how many "
                "rows a step has. Give one of them."
            )
        if callable(self.optimizer) and (
            self.learning_rate or self.optimizer_options or self.base_batch or self.warmup_epochs
        ):
            raise UsageError(
                "learning_rate, base_batch, warmup_epochs and optimizer_options are for an optimizer given by name, "
                "but optimizer is a function. Set them inside it."
            )
        if self.learning_rate is None and (self.base_batch or self.warmup_epochs):
            raise UsageError("base_batch and warmup_epochs change a learning_rate, but there is none. Give it too.")
        if callable(self.model) and self.model_options:
            raise UsageError(
                "model_options are for a model given by name, but model is a function. Set them inside it."
            )
        if callable(self.dataset) and (self.data_dir or self.dataset_options or self.download):
            raise UsageError(
                "data_dir, dataset_options and download are for a data set given by name, but dataset is a function. "
                "Set them inside it."
            )
        if self.replicas is not None and self.strategy in ("multi_worker", "tpu"):
            raise UsageError(
                f"replicas is {self.replicas}, but {self.strategy} takes its number from the devices. Leave it out."
            )
        if self.resume == "must" and self.run_dir is None:
            raise UsageError("resume is 'must', but there is no run_dir to resume. Give the folder of the run.")

    def replace(self, **changes):
        """Returns the config with some fields changed, and with the fields that depend on them reset.

        A new length has its own unit; a new model, data set or optimizer has its own options.
        """
        for field, dependents in _DEPENDENTS.items():
            if field in changes and changes[field] != getattr(self, field):
                for name, empty in dependents.items():
                    changes.setdefault(name, empty)
        return dataclasses.replace(self, **changes)

    def for_replicas(self, replicas):
        """Returns the config with the global batch of a number of replicas, if `replica_batch` is set."""
        if self.replica_batch is None:
            return self
        return dataclasses.replace(self, global_batch=self.replica_batch * replicas, replica_batch=None)

    def total_steps(self, steps_per_epoch):
        """Returns the number of steps of the whole run."""
        return self.steps or (self.epochs or DEFAULT_EPOCHS) * steps_per_epoch

    def to_dict(self):
        """Returns the run as JSON types; a function is written as module:name."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}


# The fields that identify a run: if one differs, a folder's checkpoints and results belong to another run.
_IDENTITY = (
    "model",
    "model_options",
    "dataset",
    "dataset_options",
    "global_batch",
    "seed",
    "optimizer",
    "optimizer_options",
    "learning_rate",
    "base_batch",
    "scaling",
    "warmup_epochs",
    "loss",
    "precision",
    "compression",
    "sync_batchnorm",
)


def first_difference(there, here):
    """Finds the first field in which two runs differ.

    Args:
        there: a `RunConfig` as JSON types, perhaps of an earlier version of tfdist.
        here: the same of another run.

    Returns:
        A text such as "seed is 0 there, and 9 here", or None.
    """
    for field in _IDENTITY:
        # The rows that `replica_batch` makes are unknown until the strategy exists.
        known = field in there and field in here and not (field == "global_batch" and here.get("replica_batch"))
        if known and there[field] != here[field]:
            return f"{field} is {there[field]!r} there, and {here[field]!r} here"
    return None


def read_steps(text):
    """Parses "100:110" as (100, 110).

    Raises:
        ValueError: the text is not a range of steps.
    """
    first, colon, last = str(text).partition(":")
    if not (colon and first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise UsageError(f"profile_steps is {text!r}. Use two steps, the first one below the other: 100:110.")
    return int(first), int(last)


def _plain(value):
    if callable(value):
        return f"{value.__module__}:{value.__qualname__}"
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
