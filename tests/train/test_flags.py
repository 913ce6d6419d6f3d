"""The command line: each flag changes its field, each mistake has a message, and every recipe loads."""

import inspect
import sys

import pytest
from support.processes import REPOSITORY

import tfdist
from tfdist.assembly import recipe_file
from tfdist.options.command_line import make_flags
from tfdist.options.fields import flatten
from tfdist.options.run import DEFAULT_EPOCHS, OPTIMIZERS, RunConfig
from tfdist.options.step import StepOptions
from tfdist.train import flags

# Flag → (the value on the command line, every field of the default config that it changes).
CHANGES = {
    "sync_batchnorm": ("false", {"sync_batchnorm": False}),
    "base_batch": ("256", {"base_batch": 256}),
    "compression": ("bfloat16", {"compression": "bfloat16"}),
    "exchange": ("factors", {"exchange": "factors"}),
    "jit_compile": ("true", {"jit_compile": True}),
    "preemption_notice": ("gce", {"preemption_notice": "gce"}),
    "replica_batch": ("16", {"replica_batch": 16}),
    "scaling": ("square_root", {"scaling": "square_root"}),
    "ema_momentum": ("0.99", {"ema_momentum": 0.99}),
    "schedule": ("cosine", {"schedule": "cosine"}),
    "warmup_epochs": ("0.5", {"warmup_epochs": 0.5}),
    "checkpoint_every_steps": ("5", {"checkpoint_every_steps": 5}),
    "data_dir": ("~/here", {"data_dir": "~/here"}),
    "dataset": ("mnist", {"dataset": "mnist", "expected": {}}),
    "deterministic": ("true", {"deterministic": True}),
    "download": ("true", {"download": True}),
    "epochs": ("3", {"epochs": 3}),
    "global_batch": ("64", {"global_batch": 64}),
    "alone": ("true", {"alone": True}),
    "on_nan": ("warn", {"on_nan": "warn"}),
    "resume_with_changes": ("true --run_dir=runs/a", {"resume_with_changes": True, "run_dir": "runs/a"}),
    "init_from": ("runs/b", {"init_from": "runs/b"}),
    "freeze": ("^a,b/c", {"freeze": ["^a", "b/c"]}),
    "thaw_epoch": ("2 --freeze=a", {"thaw_epoch": 2, "freeze": ["a"]}),
    "lora_rank": ("4", {"lora_rank": 4}),
    "lora_layers": ("a,b --lora_rank=4", {"lora_layers": ["a", "b"], "lora_rank": 4}),
    "prediction_rows": ("16", {"prediction_rows": 16}),
    "keep_checkpoints": ("2", {"keep_checkpoints": 2}),
    "log_every_steps": ("50", {"log_every_steps": 50}),
    "learning_rate": ("0.5", {"learning_rate": 0.5}),
    "model": ("mlp", {"model": "mlp", "model_options": {}, "expected": {}}),
    "optimizer": ("sgd", {"optimizer": "sgd", "learning_rate": None}),
    "profile_steps": ("100:110", {"profile_steps": "100:110"}),
    "precision": ("float64", {"precision": "float64"}),
    "replicas": ("2", {"replicas": 2}),
    "resume": ("never", {"resume": "never"}),
    "run_dir": ("runs/a", {"run_dir": "runs/a"}),
    "seed": ("7", {"seed": 7}),
    "start_seconds": ("9", {"start_seconds": 9.0}),
    "steps": ("11", {"steps": 11}),
    "steps_per_execution": ("4", {"steps_per_execution": 4}),
    "strategy": ("mirrored", {"strategy": "mirrored"}),
}
RECIPES = sorted((REPOSITORY / "recipes").rglob("*.py"))


def refusal(*arguments):
    with pytest.raises(ValueError) as error:
        flags.read_config(arguments)
    return str(error.value)


@pytest.fixture
def write_recipe(tmp_path):
    """Returns a function (text) → the path of a recipe with that text."""

    def write(text, name="recipe_under_test.py"):
        path = tmp_path / name
        path.write_text(text)
        return path

    yield write
    sys.modules.pop("recipe_under_test", None)


def test_without_flags_the_config_is_the_default():
    assert flags.read_config([]) == RunConfig()


@pytest.mark.parametrize("name", sorted({*make_flags(*flags.OPTIONS)} - {"recipe"}))
def test_a_flag_changes_its_field_and_no_other(name):
    text, changed = CHANGES[name]
    given, default = flags.read_config(f"--{name}={text}".split()).to_dict(), RunConfig().to_dict()
    assert given == default | changed
    assert given[name] != default[name]


def test_calls_may_be_as_long_as_measuring_finds():
    assert flags.read_config(["--steps_per_execution=auto"]) == RunConfig(step=StepOptions(steps_per_execution="auto"))


def test_every_row_of_the_table_is_a_flag():
    assert CHANGES.keys() | {"recipe"} == {*make_flags(*flags.OPTIONS)}


def test_the_options_of_steps_and_checkpoints_are_arguments_of_fit():
    arguments = inspect.signature(tfdist.fit).parameters
    config = RunConfig()
    assert {*flatten(config.step), *flatten(config.checkpoints)} <= arguments.keys()


@pytest.mark.usefixtures("cpus")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_on_offer_can_be_made(optimizer):
    from tfdist import data
    from tfdist.assembly import assemble

    run = flags.read_config([f"--optimizer={optimizer}", "--learning_rate=0.25"])
    made = assemble.make_optimizer(run, data.digits())
    assert type(made).__name__.lower() == optimizer
    assert float(made.learning_rate) == 0.25


def test_a_value_may_follow_its_flag_after_a_space():
    assert flags.read_config(["--epochs", "3", "-seed", "2"]) == RunConfig(epochs=3, seed=2)


def test_a_switch_may_be_turned_off(write_recipe):
    recipe = write_recipe(
        "from tfdist import RunConfig\ndef recipe():\n    return RunConfig(deterministic=True, download=True)\n"
    )
    arguments = [f"--recipe={recipe}", "--nodeterministic", "--download=false"]
    assert flags.read_config(arguments) == RunConfig()


def test_a_flag_wins_over_the_recipe(write_recipe):
    recipe = write_recipe("from tfdist import RunConfig\ndef recipe():\n    return RunConfig(epochs=3, seed=1)\n")
    assert flags.read_config([f"--recipe={recipe}", "--steps=5"]) == RunConfig(steps=5, seed=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--epoch=3"],
            "Unknown command line flag 'epoch'. Did you mean: epochs ? See python -m tfdist.train --help.",
        ),
        (["--epochs=x"], "flag --epochs=x: value should be a whole number. See python"),
        (["--epochs=1.5"], "flag --epochs=1.5: value should be a whole number"),
        (["--steps_per_execution=x"], "flag --steps_per_execution=x: value should be a whole number, or auto"),
        (["--steps_per_execution=1.5"], "flag --steps_per_execution=1.5: value should be a whole number, or auto"),
        (["--steps_per_execution=0"], "steps_per_execution is 0. Use a whole number from 1, 'auto', or None"),
        (["--learning_rate=fast"], "flag --learning_rate=fast: value should be a number"),
        (["--strategy=gpu"], "flag --strategy=gpu: value should be one of <auto|one_device|"),
        (["--deterministic=perhaps"], "flag --deterministic=perhaps: "),
        (["--epochs"], "Missing value for flag --epochs. See python -m tfdist.train --help."),
        (["epochs=3"], "'epochs=3' is not a flag. Write --name=value; see python -m tfdist.train"),
        (["--seed=1", "--", "x"], "'x' is not a flag. Write --name=value;"),
        (["--epochs=0"], "epochs is 0. Use a whole number from 1."),
        (["--epochs=2", "--steps=3"], "epochs is 2 and steps is 3: both say how long to train."),
        (["--resume=must"], "resume is 'must', but there is no run_dir to resume."),
        (
            ["--profile_steps=110:100"],
            "profile_steps is '110:100'. Use two steps, the first one below the",
        ),
        (["--profile_steps=5"], "profile_steps is '5'. Use two steps,"),
        (["--run_dir="], "run_dir is empty. Give a folder, or leave it out."),
    ],
)
def test_a_wrong_command_line_is_refused(arguments, message):
    assert message in refusal(*arguments)


@pytest.mark.parametrize("argument", ["--help", "-h", "-help", "--helpfull"])
def test_help_names_every_flag_and_ends_well(argument, capsys):
    with pytest.raises(SystemExit) as end:
        flags.read_config(["--epochs=3", argument])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Trains a Keras model on the devices at hand")
    for name in make_flags(*flags.OPTIONS):
        assert f"--{name}:" in shown or f"--[no]{name}:" in shown
    assert "(default" not in shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipe = 3\n", "it has no function `recipe`. Define one that returns a tfdist.RunConfig"),
        ("def recipe():\n    return 3\n", "recipe() returned int. Return a tfdist.RunConfig."),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_path(text, message, write_recipe):
    path = write_recipe(text)
    assert refusal(f"--recipe={path}").startswith(f"--recipe={path}: {message}")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("x = 1\ndef recipe(:\n", 2, "SyntaxError: invalid syntax"),
        ("\nimport no_such_module\n", 2, "ModuleNotFoundError: No module named 'no_such_module'"),
        (
            "from tfdist import RunConfig\ndef recipe():\n    return RunConfig(epochs=0)\n",
            3,
            "tfdist.process.errors.UsageError: epochs is 0. Use a whole number from 1.",
        ),
        (
            "from tfdist import RunConfig\ndef recipe():\n    return RunConfig(epoch=1)\n",
            3,
            "TypeError: RunConfig.__init__() got an unexpected keyword argument 'epoch'",
        ),
    ],
)
def test_a_recipe_that_fails_shows_its_own_line(text, line, message, write_recipe):
    path = write_recipe(text)
    first, *rest = refusal(f"--recipe={path}").splitlines()
    assert first == f"--recipe={path}: your code raised an error."
    assert next(entry.strip() for entry in rest if "File" in entry).startswith(f'File "{path}", line {line}')
    assert sum("File" in entry for entry in rest) == 1
    assert rest[-1] == message


def test_a_recipe_that_is_not_there_is_refused(tmp_path):
    path = tmp_path / "none.py"
    assert refusal(f"--recipe={path}") == f"--recipe={path}: there is no such file. Give the path of a Python file."
    assert refusal("--recipe=") == "--recipe=.: there is no such file. Give the path of a Python file."


def test_a_recipe_that_is_not_python_is_refused(write_recipe):
    path = write_recipe("name: x\n", name="recipe.yaml")
    message = f"--recipe={path}: this is not a Python file. Give one that ends in .py."
    assert refusal(f"--recipe={path}") == message


def test_a_function_of_a_recipe_keeps_its_name(write_recipe):
    path = write_recipe(
        "from tfdist import RunConfig\n"
        "def build():\n    pass\n"
        "def recipe():\n    return RunConfig(model=build, model_options={})\n"
    )
    run = recipe_file.load_recipe(path)
    assert run.to_dict()["model"] == "tfdist_file_recipe_under_test:build"
    assert sys.modules["tfdist_file_recipe_under_test"].build is run.model


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_every_recipe_loads_and_has_the_name_of_its_file(path):
    run = recipe_file.load_recipe(path)
    assert run.name == path.stem


def test_the_default_is_the_recipe_digits_cnn():
    run = recipe_file.load_recipe(REPOSITORY / "recipes" / "classification" / "digits_cnn.py")
    assert run == RunConfig(epochs=DEFAULT_EPOCHS)
    assert run.total_steps(23) == RunConfig().total_steps(23)
