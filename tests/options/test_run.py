"""A run's config is checked when it is made; its errors name the wrong field and the remedy."""

import dataclasses
import json
import math
import pathlib

import pytest

from tfdist.options import run as config
from tfdist.options.checkpoints import CheckpointOptions
from tfdist.options.run import RunConfig
from tfdist.options.schedule import ScheduleOptions
from tfdist.options.start import StartOptions
from tfdist.options.step import StepOptions

# What config.json holds, so that the folders of earlier runs can be compared.
KEYS = {
    *("name", "model", "model_options", "dataset", "dataset_options", "data_dir", "download", "test_split"),
    *("global_batch", "replica_batch", "epochs", "steps", "optimizer", "learning_rate", "base_batch", "scaling"),
    *("schedule", "warmup_epochs", "step_epochs", "step_factor", "final_rate"),
    *("ema_momentum", "optimizer_options", "loss", "metrics", "precision", "strategy", "replicas", "seed"),
    *("steps_per_execution", "compression", "exchange", "jit_compile", "sync_batchnorm", "deterministic", "run_dir"),
    *("checkpoint_every_steps", "keep_checkpoints", "log_every_steps", "resume", "profile_steps", "start_seconds"),
    *("preemption_notice", "expected", "on_nan", "resume_with_changes", "alone"),
    *("preprocessing", "augmentation", "test_preprocessing", "callbacks"),
    *("init_from", "freeze", "thaw_epoch", "lora_rank", "lora_layers"),
    "prediction_rows",
}


def make_something():
    """Stands in for a recipe's own model, data set or optimizer."""


def refusal(**fields):
    with pytest.raises(ValueError) as error:
        RunConfig(**fields)
    return str(error.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"strategy": "miror"},
            "strategy is 'miror'. Use one of auto, one_device, mirrored, multi_worker, tpu.",
        ),
        (
            {"precision": "half"},
            "precision is 'half'. Use one of float32, float64, mixed_float16, mixed_bfloat16.",
        ),
        ({"step": {"exchange": "auto"}}, "step is {'exchange': 'auto'}. Use tfdist.StepOptions(…)."),
        ({"checkpoints": None}, "checkpoints is None. Use tfdist.CheckpointOptions(…)."),
        (
            {"optimizer": "Adam"},
            "optimizer is 'Adam'. Use one of adadelta, adafactor, adagrad, adam, adamax, adamw, "
            "ftrl, lamb, lars, lion, nadam, rmsprop, sgd.",
        ),
        ({"epochs": 0}, "epochs is 0. Use a whole number from 1."),
        ({"steps": -3}, "steps is -3. Use a whole number from 1."),
        ({"replicas": 0}, "replicas is 0. Use a whole number from 1."),
        ({"global_batch": None}, "global_batch is None. Use a whole number from 1."),
        ({"seed": -1}, "seed is -1. Use a whole number from 0 to 4294967295."),
        ({"seed": 2**32}, "seed is 4294967296. Use a whole number from 0 to 4294967295."),
        ({"seed": "1"}, "seed is '1'. Use a whole number from 0 to 4294967295."),
        ({"seed": True}, "seed is True. Use a whole number from 0 to 4294967295."),
        ({"learning_rate": 0.0}, "learning_rate is 0.0. Use a number above 0."),
        ({"learning_rate": -1}, "learning_rate is -1. Use a number above 0."),
        ({"learning_rate": math.nan}, "learning_rate is nan. Use a number above 0."),
        ({"learning_rate": math.inf}, "learning_rate is inf. Use a number above 0."),
        ({"schedule": "cosine"}, "schedule is 'cosine'. Use tfdist.ScheduleOptions(…)."),
        ({"start_seconds": 0}, "start_seconds is 0. Use a number above 0."),
        ({"ema_momentum": 1.0}, "ema_momentum is 1.0. Use a number above 0 below 1."),
        ({"base_batch": 0}, "base_batch is 0. Use a whole number from 1."),
        ({"replica_batch": 0}, "replica_batch is 0. Use a whole number from 1."),
        ({"scaling": "cubic"}, "scaling is 'cubic'. Use one of linear, square_root."),
        ({"data_dir": ""}, "data_dir is empty. Give a folder, or leave it out."),
        (
            {"augmentation": "flip"},
            "augmentation is 'flip'. Use a function () → a function (batch, row_seeds) → batch, or a list of such.",
        ),
        (
            {"augmentation": lambda batch, seeds: batch},
            "augmentation is a function of (batch, seeds). Use a function () → a function (batch, row_seeds) → batch",
        ),
        ({"callbacks": lambda run: []}, "callbacks is a function of (run). Use a function () → a list of callbacks."),
        ({"callbacks": []}, "callbacks is []. Use a function () → a list of callbacks."),
        (
            {"metrics": "mse"},
            "metrics is 'mse'. Use a tuple of names and functions, or a function () → a list of metrics.",
        ),
    ],
)
def test_a_wrong_value_is_refused_by_field_and_value(fields, message):
    assert message in refusal(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"epochs": 2, "steps": 30},
            "epochs is 2 and steps is 30: both say how long to train. Give one of them.",
        ),
        (
            {"optimizer": make_something, "learning_rate": 0.1},
            "learning_rate, base_batch, schedule, warmup_epochs, ema_momentum and optimizer_options are for an "
            "optimizer given by name, but optimizer is a function. Set them inside it.",
        ),
        (
            {"optimizer": make_something, "learning_rate": None, "schedule": ScheduleOptions(warmup_epochs=1)},
            "learning_rate, base_batch, schedule, warmup_epochs, ema_momentum and optimizer_options are for an",
        ),
        (
            {"learning_rate": None, "base_batch": 256},
            "base_batch, schedule and warmup_epochs change a learning_rate, but there is none. Give it too.",
        ),
        (
            {"ema_momentum": 0.9, "optimizer_options": {"use_ema": True}},
            "ema_momentum is 0.9, and optimizer_options are {'use_ema': True}: both say how the weights are averaged.",
        ),
        (
            {"ema_momentum": 0.9, "start": StartOptions(freeze=("a",), thaw_epoch=1)},
            "thaw_epoch and moving averages of the weights (ema_momentum, use_ema): the averages would change the",
        ),
        (
            {"optimizer_options": {"use_ema": True}, "start": StartOptions(freeze=("a",), thaw_epoch=1)},
            "thaw_epoch and moving averages of the weights (ema_momentum, use_ema): the averages would change the",
        ),
        (
            {"dataset_options": {"split": "train", "seed": 3}},
            "dataset_options has ['seed', 'split'], which the run gives itself. Leave them out.",
        ),
        (
            {"global_batch": 64, "replica_batch": 16},
            "global_batch is 64 and replica_batch is 16: each says how many rows a step has. Give one of them.",
        ),
        (
            {
                "optimizer": make_something,
                "learning_rate": None,
                "optimizer_options": {"momentum": 0.9},
            },
            "learning_rate, base_batch, schedule, warmup_epochs, ema_momentum and optimizer_options are for an",
        ),
        (
            {"model": make_something, "model_options": {"dense": 3}},
            "model_options are for a model given by name, but model is a function. Set them",
        ),
        (
            {"dataset": make_something, "download": True},
            "data_dir, dataset_options and download are for a data set given by name, but dataset "
            "is a function. Set them inside it.",
        ),
        ({"dataset": make_something, "data_dir": "d"}, "data_dir, dataset_options and download"),
        (
            {"dataset": make_something, "dataset_options": {"rows": 3}},
            "data_dir, dataset_options and download",
        ),
        (
            {"strategy": "multi_worker", "replicas": 2},
            "replicas is 2, but multi_worker takes its number from the devices. Leave it out.",
        ),
        ({"strategy": "tpu", "replicas": 8}, "replicas is 8, but tpu takes its number from"),
    ],
)
def test_a_contradiction_is_refused(fields, message):
    assert message in refusal(**fields)


@pytest.mark.parametrize("field", ["strategy", "precision", "scaling"])
def test_only_a_model_a_data_set_and_an_optimizer_may_be_functions(field):
    assert refusal(**{field: make_something}).startswith(f"{field} is <function make_something")
    RunConfig(
        model=make_something,
        model_options={},
        dataset=make_something,
        optimizer=make_something,
        learning_rate=None,
    )


def test_a_misspelt_field_is_refused():
    with pytest.raises(TypeError, match="global_bach"):
        RunConfig(global_bach=64)
    with pytest.raises(TypeError, match="global_bach"):
        RunConfig().replace(global_bach=64)


def test_a_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunConfig().seed = 1


@pytest.mark.parametrize(
    ("changes", "emptied"),
    [
        ({"steps": 7}, {"epochs": None}),
        ({"model": "mlp"}, {"model_options": {}, "expected": {}}),
        ({"dataset": "mnist"}, {"dataset_options": {}, "data_dir": None, "expected": {}}),
        ({"optimizer": "sgd"}, {"optimizer_options": {}, "learning_rate": None}),
        ({"global_batch": 8}, {}),
    ],
)
def test_what_belonged_to_a_replaced_value_goes_with_it(changes, emptied):
    full = RunConfig(epochs=3, dataset_options={"a": 1}, data_dir="d", optimizer_options={"beta_1": 0.8})
    expected = dataclasses.asdict(full) | emptied | changes
    assert dataclasses.asdict(full.replace(**changes)) == expected


def test_epochs_take_the_place_of_steps():
    changed = RunConfig(steps=5).replace(epochs=2)
    assert (changed.epochs, changed.steps) == (2, None)


def test_the_same_value_again_leaves_what_belongs_to_it():
    full = RunConfig(epochs=3)
    same = full.replace(model="cnn", dataset="digits", optimizer="adam", epochs=3)
    assert same == full
    assert same.learning_rate == 2e-3


def test_what_is_given_together_with_a_new_value_stays():
    changed = RunConfig().replace(optimizer="sgd", learning_rate=0.5)
    assert (changed.optimizer, changed.learning_rate) == ("sgd", 0.5)


def test_options_of_a_step_and_of_checkpoints_are_replaced_by_the_names_of_their_flags():
    full = RunConfig(step=StepOptions(jit_compile=True), checkpoints=CheckpointOptions(keep=5))
    changed = full.replace(exchange="factors", run_dir="a", checkpoint_every_steps=7, resume="never")
    assert changed.step == StepOptions(jit_compile=True, exchange="factors")
    assert changed.checkpoints == CheckpointOptions(folder="a", every_steps=7, resume="never", keep=5)
    assert changed == dataclasses.replace(full, step=changed.step, checkpoints=changed.checkpoints)
    both = full.replace(step=StepOptions(compression="float16"), sync_batchnorm=False)
    assert both.step == StepOptions(compression="float16", sync_batchnorm=False)


def test_a_replaced_config_is_checked_too():
    with pytest.raises(ValueError, match=r"checkpoint_every_steps is 0\. Use a whole number from 1\."):
        RunConfig().replace(checkpoint_every_steps=0)
    with pytest.raises(ValueError, match="epochs is 2 and steps is 3: both say how long"):
        RunConfig().replace(epochs=2, steps=3)


@pytest.mark.parametrize(
    ("fields", "steps"),
    [({}, 460), ({"epochs": 3}, 69), ({"steps": 5}, 5), ({"steps": 1000}, 1000)],
)
def test_the_total_of_steps_comes_from_steps_or_epochs_or_20_epochs(fields, steps):
    assert RunConfig(**fields).total_steps(23) == steps


def test_a_config_is_written_as_json_with_functions_by_name():
    run = RunConfig(model=make_something, model_options={}, metrics=("accuracy", "mse"))
    read = json.loads(json.dumps(run.to_dict()))
    assert read.keys() == KEYS
    assert read["model"].endswith("test_run:make_something")
    assert read["metrics"] == ["accuracy", "mse"]
    assert read["expected"] == {}
    assert RunConfig().to_dict()["expected"] == {"accuracy": 0.98}
    assert read["learning_rate"] == 2e-3
    assert RunConfig(checkpoints=CheckpointOptions(folder=pathlib.Path("a"))).to_dict()["run_dir"] == "a"


class Measured:
    """Stands in for a Keras metric, whose variables need a device."""

    def __call__(self, y_true, y_pred):
        """Is there, as in Keras."""

    def update_state(self, y_true, y_pred):
        """Is there, as in Keras."""


class Settings:
    """Stands in for a Keras loss."""

    def __call__(self, y_true, y_pred):
        """Is there, as in Keras."""

    def get_config(self):
        """Returns its settings."""
        return {"label_smoothing": 0.1}


def test_a_metric_that_was_made_before_the_scope_is_refused():
    message = "whose variables were made before the workers have met. Use a function () → a list of metrics"
    assert message in refusal(metrics=("accuracy", Measured()))
    assert RunConfig(metrics=(Measured,)).metrics == (Measured,)


def test_a_loss_is_written_with_its_settings():
    written = RunConfig(loss=Settings()).to_dict()["loss"]
    assert written == {"class": f"{__name__}:Settings", "label_smoothing": 0.1}


@pytest.mark.parametrize("value", [True, False, "auto", None])
def test_jit_compile_is_written_as_it_is_given_to_fit(value):
    assert json.loads(json.dumps(RunConfig(step=StepOptions(jit_compile=value)).to_dict()))["jit_compile"] == value


def test_a_function_in_place_of_the_model_needs_no_other_options():
    assert RunConfig(model=make_something).model_options == {}
    with pytest.raises(ValueError, match="model_options are for a model given by name"):
        RunConfig(model=make_something, model_options={"batch_norm": True})


def test_the_listed_names_are_all_taken():
    for field, names in (
        ("strategy", config.STRATEGIES),
        ("precision", config.PRECISIONS),
        ("optimizer", config.OPTIMIZERS),
    ):
        assert [getattr(RunConfig(**{field: name}), field) for name in names] == list(names)
