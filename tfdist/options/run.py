"""The config of a run: frozen, typed, and checked once, before anything starts."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any, Self

from tfdist.options import DEFAULT_GLOBAL_BATCH
from tfdist.options.checkpoints import CheckpointOptions
from tfdist.options.checks import check_fields, check_folder, check_takes_nothing
from tfdist.options.fields import documented, flatten, option, replace_flat
from tfdist.options.schedule import ScheduleOptions
from tfdist.options.start import StartOptions
from tfdist.options.step import StepOptions
from tfdist.process.errors import UsageError

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker", "tpu")
PRECISIONS = ("float32", "float64", "mixed_float16", "mixed_bfloat16")
PREEMPTION_NOTICES = ("none", "gce", "azure")
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

_A_TRANSFORM = "a function () → a function (batch, row_seeds) → batch, or a list of such"
# The options of the default model.
_CNN_OPTIONS: Mapping[str, Any] = {"batch_norm": True}
# What the default model has reached on the default data set.
_EXPECTED: Mapping[str, float] = {"accuracy": 0.98}
# Field → the fields that depend on it, and their values when the field changes.
_DEPENDENTS: Mapping[str, Mapping[str, Any]] = {
    "steps": {"epochs": None},
    "epochs": {"steps": None},
    "model": {"model_options": {}, "expected": {}},
    "dataset": {"dataset_options": {}, "data_dir": None, "expected": {}},
    "optimizer": {
        "optimizer_options": {},
        "learning_rate": None,
        "base_batch": None,
        "schedule": ScheduleOptions(),
        "ema_momentum": None,
    },
    "global_batch": {"replica_batch": None},
    "replica_batch": {"global_batch": DEFAULT_GLOBAL_BATCH},
}


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All options of what a run computes and where it writes; the defaults train the CNN on the digits.

    In a recipe `model`, `dataset` and `optimizer` may also be functions: () → uncompiled `keras.Model`, (split,
    global_batch, seed) → `Source`, and () → `keras.optimizers.Optimizer`. They are called once the workers have met,
    and those that make parts of the model in the strategy's scope.

    Example:
        ```python
        import tfdist

        def recipe():
            return tfdist.RunConfig(name="digits_mlp", model="mlp", model_options={"hidden": (64,)}, epochs=5)

        longer = recipe().replace(epochs=50)
        ```

    Attributes:
        name: Names the run's folder: `runs/<name>-<n>`.
        model_options: Further arguments of `tfdist.models.build`.
        dataset_options: Further arguments of `tfdist.data.load`.
        test_split: The split that is evaluated; None for no evaluation.
        schedule: The `ScheduleOptions` of `learning_rate`.
        optimizer_options: Further arguments of an optimizer given by name.
        loss: A name, a function (y_true, y_pred) → one loss a row, or a Keras `Loss`, as in `keras.Model.compile`; or a
            function () → one of these.
        metrics: Names, and functions (y_true, y_pred) → one value a row, as in `keras.Model.compile`; or a function
            () → a list of these and of Keras `Metric`s.
        preprocessing: A function () → a function (batch, row_seeds int64 (B, 2)) → batch, or a list of such: for the
            rows of every split.
        augmentation: The same for the training split alone, after `preprocessing`.
        test_preprocessing: The same for the other splits alone, after `preprocessing`.
        callbacks: A function () → the callbacks that `fit` gets besides those of the command; every worker calls it.
        start: The `StartOptions`.
        step: The `StepOptions`.
        checkpoints: The `CheckpointOptions`.
        expected: The results that the run has reached before, such as {"accuracy": 0.98}: recorded, not enforced.
    """

    name: str = "digits_cnn"
    model: str | Callable[[], Any] = option("cnn", help="A name from tfdist.models.")
    model_options: Mapping[str, Any] = dataclasses.field(default_factory=lambda: _CNN_OPTIONS)
    dataset: str | Callable[[str, int, int], Any] = option(
        "digits", help="A name for tfdist.data.load, such as digits, or a TFDS name."
    )
    dataset_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    data_dir: str | os.PathLike[str] | None = option(
        None, help="The folder that holds the data set, if it is not part of tfdist."
    )
    download: bool = option(False, help="Let TensorFlow Datasets download missing data.")
    test_split: str | None = "test"
    global_batch: int = option(DEFAULT_GLOBAL_BATCH, help="Rows of a step over all replicas.", least=1)
    replica_batch: int | None = option(
        None, help="Rows of a step on each replica, in place of --global_batch.", least=1
    )
    epochs: int | None = option(None, help="Passes over the training split.", shown=f"{DEFAULT_EPOCHS}", least=1)
    steps: int | None = option(None, help="Steps of the whole run, in place of --epochs.", least=1)
    optimizer: str | Callable[[], Any] = option("adam", choices=OPTIMIZERS, help="The Keras optimizer.")
    learning_rate: float | None = option(
        2e-3, help="The learning rate of an optimizer given by name; without one Keras' default.", above=0
    )
    base_batch: int | None = option(
        None, help="Rows of a step for which --learning_rate was tuned: it is scaled to the global batch.", least=1
    )
    scaling: str = option(
        "linear", choices=SCALINGS, help="How --base_batch scales the learning rate with the global batch."
    )
    schedule: ScheduleOptions = dataclasses.field(default_factory=ScheduleOptions)
    optimizer_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    ema_momentum: float | None = option(
        None,
        help="Momentum of a moving average of the weights, such as 0.999: it is validated, evaluated and saved in "
        "model.keras; without one there is no average.",
        above=0,
        below=1,
    )
    loss: str | Callable[..., Any] = "sparse_categorical_crossentropy"
    metrics: tuple[str | Callable[..., Any], ...] | Callable[[], Any] = ("accuracy",)
    preprocessing: Callable[[], Any] | None = None
    augmentation: Callable[[], Any] | None = None
    test_preprocessing: Callable[[], Any] | None = None
    callbacks: Callable[[], Any] | None = None
    precision: str = option("float32", choices=PRECISIONS, help="Keras' dtype policy.")
    strategy: str = option("auto", choices=STRATEGIES, help="The tf.distribute strategy.")
    replicas: int | None = option(None, help="Number of GPUs, or of logical CPU devices, to mirror over.", least=1)
    alone: bool = option(False, help="Train alone in this process, though the environment describes several processes.")
    seed: int = option(0, help="Seed of weights, order and random layers.", least=0, most=2**32 - 1)
    start: StartOptions = dataclasses.field(default_factory=StartOptions)
    step: StepOptions = dataclasses.field(default_factory=StepOptions)
    deterministic: bool = option(False, help="Use TensorFlow's deterministic kernels, where they differ.")
    checkpoints: CheckpointOptions = dataclasses.field(default_factory=CheckpointOptions)
    profile_steps: str | None = option(
        None,
        help="Steps to profile for TensorBoard, such as 100:110: those after 100, up to and with 110.",
    )
    prediction_rows: int = option(
        0,
        least=0,
        help="Rows of the test split that are drawn at each epoch's end, with the classes that the model predicts, to "
        "the folder predictions; 0 for none. It needs matplotlib: pip install matplotlib.",
    )
    start_seconds: float = option(
        120.0,
        help="How long the workers wait for one another at the start, before they report the absent ones.",
        above=0,
    )
    preemption_notice: str = option(
        "none",
        choices=PREEMPTION_NOTICES,
        help="The cloud that may take this machine away: it is asked, and the run then saves and stops.",
    )
    expected: Mapping[str, float] = dataclasses.field(default_factory=lambda: _EXPECTED)

    def __post_init__(self) -> None:
        check_fields(
            self,
            also={
                "schedule": "tfdist.ScheduleOptions(…)",
                "start": "tfdist.StartOptions(…)",
                "step": "tfdist.StepOptions(…)",
                "checkpoints": "tfdist.CheckpointOptions(…)",
                "metrics": "a tuple of names and functions, or a function () → a list of metrics",
                "preprocessing": _A_TRANSFORM,
                "augmentation": _A_TRANSFORM,
                "test_preprocessing": _A_TRANSFORM,
                "callbacks": "a function () → a list of callbacks",
                "profile_steps": "two steps, the first one below the other: 100:110",
            },
        )
        if self.profile_steps is not None:
            read_steps(self.profile_steps)
        check_folder("data_dir", self.data_dir)
        if own := {"split", "global_batch", "seed", "data_dir", "download"} & self.dataset_options.keys():
            raise UsageError(f"dataset_options has {sorted(own)}, which the run gives itself. Leave them out.")
        for name in ("preprocessing", "augmentation", "test_preprocessing"):
            check_takes_nothing(name, getattr(self, name), _A_TRANSFORM)
        check_takes_nothing("callbacks", self.callbacks, "a function () → a list of callbacks")
        self._check_metrics()
        self._check_averages()
        self._check_together()

    def _check_metrics(self) -> None:
        for metric in self.metrics if isinstance(self.metrics, tuple) else ():
            if hasattr(metric, "update_state") and not isinstance(metric, type):
                raise UsageError(
                    f"metrics holds {metric!r}, whose variables were made before the workers have met. Use a function "
                    "() → a list of metrics: it is called in the strategy's scope."
                )

    def _check_averages(self) -> None:
        if self.start.thaw_epoch is not None and (self.ema_momentum or self.optimizer_options.get("use_ema")):
            raise UsageError(
                "thaw_epoch and moving averages of the weights (ema_momentum, use_ema): the averages would change the "
                "frozen weights. Leave out one."
            )
        if self.ema_momentum and {"use_ema", "ema_momentum"} & self.optimizer_options.keys():
            raise UsageError(
                f"ema_momentum is {self.ema_momentum}, and optimizer_options are {dict(self.optimizer_options)}: both "
                "say how the weights are averaged. Give one of them."
            )

    def _check_together(self) -> None:
        if self.epochs is not None and self.steps is not None:
            raise UsageError(
                f"epochs is {self.epochs} and steps is {self.steps}: both say how long to train. Give one of them."
            )
        if self.replica_batch is not None and self.global_batch != DEFAULT_GLOBAL_BATCH:
            raise UsageError(
                f"global_batch is {self.global_batch} and replica_batch is {self.replica_batch}: each says how many "
                "rows a step has. Give one of them."
            )
        if self.prediction_rows and self.test_split is None:
            raise UsageError(
                f"prediction_rows is {self.prediction_rows}, but there is no test_split. Give one, or leave it out."
            )
        changes_rate = self.base_batch or self.schedule != ScheduleOptions()
        by_name = self.learning_rate or self.optimizer_options or self.ema_momentum or changes_rate
        if callable(self.optimizer) and by_name:
            raise UsageError(
                "learning_rate, base_batch, schedule, warmup_epochs, ema_momentum and optimizer_options are for an "
                "optimizer given by name, but optimizer is a function. Set them inside it."
            )
        if self.learning_rate is None and changes_rate:
            raise UsageError(
                "base_batch, schedule and warmup_epochs change a learning_rate, but there is none. Give it too."
            )
        if self.model != "cnn" and self.model_options is _CNN_OPTIONS:
            # The default's, which no function and no other model takes.
            object.__setattr__(self, "model_options", {})
        if (self.model, self.dataset) != ("cnn", "digits") and self.expected is _EXPECTED:
            object.__setattr__(self, "expected", {})
        if callable(self.model) and self.model_options:
            raise UsageError(
                "model_options are for a model given by name, but model is a function. Set them inside it."
            )
        if callable(self.dataset) and (self.data_dir or self.dataset_options or self.download):
            raise UsageError(
                "data_dir, dataset_options and download are for a data set given by name, but dataset is a function. "
                "Set them inside it."
            )
        if self.profile_steps is not None and self.steps is not None:
            check_profile(self.profile_steps, self.steps)
        if self.replicas is not None and self.strategy in ("multi_worker", "tpu"):
            raise UsageError(
                f"replicas is {self.replicas}, but {self.strategy} takes its number from the devices. Leave it out."
            )

    def replace(self, **changes: Any) -> Self:
        """Returns the config with some options changed, and with the fields that depend on them reset.

        A new length has its own unit; a new model, data set or optimizer has its own options.

        Args:
            changes: the name of a field, or of a flag (`exchange`, `run_dir`, `checkpoint_every_steps`, …) → its value.
        """
        emptied = dict[str, Any]()
        for field, dependents in _DEPENDENTS.items():
            if field in changes and changes[field] != getattr(self, field):
                emptied |= dependents
        return replace_flat(replace_flat(self, emptied), changes)

    def for_replicas(self, replicas: int) -> Self:
        """Returns the config with the global batch of a number of replicas, if `replica_batch` is set."""
        if self.replica_batch is None:
            return self
        return dataclasses.replace(self, global_batch=self.replica_batch * replicas, replica_batch=None)

    def likely_mistakes(self, steps_per_epoch: int) -> list[str]:
        """Returns a line for each option that changes nothing in this run, or lacks another one."""
        epochs = self.total_steps(steps_per_epoch) / steps_per_epoch
        lines = self.schedule.without_effect(epochs)
        if self.base_batch is None and self.scaling != SCALINGS[0]:
            lines.append(f"scaling is {self.scaling!r}, but it has no effect without base_batch. Give base_batch too.")
        return lines + self.start.without_effect(epochs, has_own_model=callable(self.model))

    def total_steps(self, steps_per_epoch: int) -> int:
        """Returns the number of steps of the whole run."""
        return self.steps or (self.epochs or DEFAULT_EPOCHS) * steps_per_epoch

    def to_dict(self) -> dict[str, Any]:
        """Returns the run as JSON types, by the names of the flags; a function is written as module:name."""
        return {name: _plain(value) for name, value in flatten(self).items()}


# The fields that identify a run, together with its length where the learning rate depends on that.
_IDENTITY = (
    "model",
    "model_options",
    "dataset",
    "dataset_options",
    "preprocessing",
    "augmentation",
    "init_from",
    "freeze",
    "thaw_epoch",
    "lora_rank",
    "lora_layers",
    "global_batch",
    "seed",
    "optimizer",
    "optimizer_options",
    "learning_rate",
    "base_batch",
    "scaling",
    "schedule",
    "warmup_epochs",
    "step_epochs",
    "step_factor",
    "final_rate",
    "ema_momentum",
    "loss",
    "precision",
    "compression",
    "sync_batchnorm",
)


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what identifies a run: if a value differs, a folder's checkpoints and results belong to another run.

    Args:
        config: a config as `RunConfig.to_dict` returns it, perhaps by an earlier version with fewer fields.
    """
    found = {name: config[name] for name in _IDENTITY if name in config}
    if config.get("schedule") == "cosine":
        steps, epochs = config["steps"], config["epochs"] or DEFAULT_EPOCHS
        found["length"] = f"{steps} steps" if steps else f"{epochs} epochs"
    return found


def read_steps(text: str) -> tuple[int, int]:
    """Parses "100:110" as (100, 110).

    Raises:
        ValueError: the text is not a range of steps.
    """
    first, colon, last = str(text).partition(":")
    if not (colon and first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise UsageError(f"profile_steps is {text!r}. Use two steps, the first one below the other: 100:110.")
    return int(first), int(last)


def check_profile(profile_steps: str, steps: int) -> None:
    """Checks that a range of steps to profile begins within a run of a number of steps.

    Raises:
        ValueError: the run ends before.
    """
    if read_steps(profile_steps)[0] >= steps:
        raise UsageError(
            f"profile_steps is {profile_steps!r}, but the run has {steps} steps, so nothing would be profiled. Use "
            "steps of the run."
        )


def _plain(value: Any) -> Any:
    if callable(value):
        # An instance that can be called has no name of its own.
        name = f"{value.__module__}:{getattr(value, '__qualname__', type(value).__qualname__)}"
        # A Keras loss with another setting is another loss.
        is_loss = hasattr(value, "get_config") and not isinstance(value, type)
        return {"class": name, **_plain(value.get_config())} if is_loss else name
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
