"""`tfdist.verify` finds and names what is wrong on several replicas, and reports nothing else."""

import json
import logging
import types

import pytest
from support import verified_models
from support.processes import REPOSITORY, run_python

from tfdist.verify import check, command
from tfdist.verify import report as reports

pytestmark = [pytest.mark.core, pytest.mark.slow]


@pytest.fixture(autouse=True)
def _quiet_tensorflow(caplog):
    caplog.set_level(logging.ERROR, logger="tensorflow")


def report_on(build, strategy, **arguments):
    """Returns the `Comparison`, and its text in one line."""
    report = check.verify_model(build, strategy, **arguments)
    return report, " ".join(reports.describe(report, build.__name__).split())


# Each has the structure, the data or the coupling of another right one.
FURTHER = {
    *(verified_models.loss_over_the_global_batch, verified_models.nested, verified_models.shared_layers),
    *(verified_models.masked_outputs, verified_models.clipped_in_the_step, verified_models.dice_loss),
    *(verified_models.running_variance, verified_models.coupled_penalty),
}


@pytest.mark.parametrize(
    "build",
    [pytest.param(build, marks=[pytest.mark.full] * (build in FURTHER)) for build in verified_models.RIGHT],
    ids=lambda build: build.__name__,
)
def test_promise_09_a_right_model_raises_no_alarm(make_strategy, build):
    report, text = report_on(build, make_strategy(2), steps=2)
    assert report.equal, text
    assert [result.rows for result in report.results] == [16, 17, 1]
    assert ("The weights cannot be compared" in text) == (build is verified_models.convolution)
    assert ("called as in inference" in text) == (build is verified_models.dropout)
    assert report.dtype == ("float32" if build is verified_models.float32_inside else "float64")


# Build function → (the quantities that differ in an even batch, the first difference, the cause).
WRONG = {
    "loss_over_replicas": (
        {"loss", "gradients"},
        "first in the loss: the outputs of all layers agree",
        "The gradients are 1/2 of one device's: the loss is divided by the wrong batch",
    ),
    "counting_norm": (
        {"loss", "gradients", "weights"},
        "first in the output of layer sequential/norm",
        "Layer 'sequential/norm' gives other outputs for the same rows: it computes over the rows of its own replica",
    ),
    "times_replicas": (
        {"loss", "gradients"},
        "first in the loss: the outputs of all layers agree",
        "The gradients are 2 times one device's: the train_step multiplies by the number of replicas, or sums",
    ),
    "root_of_the_loss": (
        {"gradients"},
        "first in the loss: the outputs of all layers agree",
        ", which is neither a mean nor a sum over rows",
    ),
    "variance_in_call": (
        {"loss", "gradients", "weights"},
        "first in the output of layer net_of_variance/dense",
        "The model's own call couples rows in its outputs or a state, but each replica computes it from its own rows",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_promise_09_a_wrong_model_is_found_and_the_cause_named(make_strategy, name):
    differing, first, cause = WRONG[name]
    report, text = report_on(getattr(verified_models, name), make_strategy(2), steps=2)
    assert not report.equal
    even = report.results[0]
    assert differing <= {*even.differing(report.tolerances)}, text
    for quantity in differing:
        assert even.differences[quantity].size > 10 * report.tolerances[quantity]
    assert first in text
    assert cause in text


def test_what_one_device_cannot_repeat_is_called_random_and_not_wrong(make_strategy):
    report, text = report_on(verified_models.custom_noise, make_strategy(2))
    assert not report.equal
    assert "DIFFERS" not in text
    assert "One device itself gives another result when the rows of a batch come in another order" in text


MISTAKES = {
    "returns_a_model": "build_fn() returned Sequential. Return (model, data): a compiled keras.Model, and",
    "not_compiled": "build_fn() returned a model that is not compiled. Call model.compile(optimizer, loss) in it.",
    "no_data": "build_fn() returned ndarray for the data. Return (model, data)",
    "cannot_train": "Keras itself cannot train the model on one device: ",
    "A_NUMBER": "support.verified_models has no function 'A_NUMBER'. Define one that returns (model, data).",
    "nothing": "support.verified_models has no function 'nothing'.",
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_message_and_code_2(cpus, capsys, name):
    assert command.main([f"support.verified_models:{name}"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"tfdist.verify: {MISTAKES[name]}")
    assert captured.err.count("\n") == 1


def test_an_error_of_the_users_own_shows_the_users_own_line(cpus, capsys):
    assert command.main(["support.verified_models:raises"]) == 2
    first, *rest = capsys.readouterr().err.splitlines()
    assert first == "tfdist.verify: build_fn(): your code raised an error."
    assert any("verified_models.py" in line and line.endswith("in raises") for line in rest)
    assert not any("tfdist/verify" in line for line in rest)
    assert rest[-1] == "ZeroDivisionError: division by zero"


def test_a_function_is_found_in_a_file_too(cpus, capsys):
    path = REPOSITORY / "tests/support/verified_models.py"
    assert command.main([f"{path}:functional", "--steps=1"]) == 0
    assert "Equal: the replicas give what one device gives." in capsys.readouterr().out


def test_the_command_ends_with_code_0_where_all_agree_also_on_three_replicas(cpus, capsys):
    assert command.main(["support.verified_models:functional", "--steps=1", "--replicas=3"]) == 0
    out = capsys.readouterr().out
    assert "support.verified_models:functional: 3 replicas against Keras on one device, in float64." in out
    assert [line.split()[0] for line in out.splitlines() if line.endswith("equal")] == ["24", "25", "2"]
    assert "Equal: the replicas give what one device gives." in out


def test_every_flag_reaches_the_comparison(cpus, monkeypatch):
    seen = []
    report = types.SimpleNamespace(equal=True)

    def note(build, strategy, **arguments):
        seen.append((strategy.num_replicas_in_sync, arguments))
        return report

    monkeypatch.setattr(check, "verify_model", note)
    monkeypatch.setattr(reports, "describe", lambda report, name: name)
    target = "support.verified_models:functional"
    assert command.main([target]) == command.main(
        [target, "--replicas=4", "--steps=7", "--seed=5", "--nosync_batchnorm"]
    )
    assert seen == [
        (2, {"steps": 3, "seed": 0, "sync_batchnorm": True}),
        (4, {"steps": 7, "seed": 5, "sync_batchnorm": False}),
    ]


def test_promise_09_an_unsynchronized_batchnorm_is_found_and_named(cpus, capsys):
    assert command.main(["support.verified_models:convolution", "--nosync_batchnorm", "--steps=1"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "first in the output of layer sequential/batch_normalization" in out
    assert "BatchNormalization 'sequential/batch_normalization' takes its statistics over the rows of its own" in out


# Arguments → (exit code, message); none of them loads TensorFlow.
ARGUMENTS = {
    ("--help",): (0, "--target: module:build_fn or file.py:build_fn"),
    (): (2, "there is nothing to verify. Write module:build_fn or file.py:build_fn."),
    ("model",): (2, "'model' names no function. Write module:build_fn or file.py:build_fn."),
    ("m:f", "--replicas=1"): (2, "--replicas is 1. Use 2 or more."),
    ("m:f", "--steps=0"): (2, "--steps is 0. Use 1 or more."),
    ("m:f", "--seed=-1"): (2, "--seed is -1. Use a whole number in 0..4294967295."),
    ("m:f", "--replica=3"): (2, "Unknown command line flag 'replica'. Did you mean: replicas ?"),
    ("support/verified_model.py:functional",): (2, "Did you mean 'support/verified_models.py'?"),
    ("support/verified_models.py:functiona",): (2, "Define one that returns (model, data). Did you mean 'functional'?"),
    ("no_such_module:f",): (2, "there is no module 'no_such_module' here. Start in a folder where it can be imported"),
}

SCRIPT = """
import json, sys
from tfdist.verify import command
for arguments in json.loads(sys.argv[1]):
    try:
        code = command.main(arguments)
    except SystemExit as end:
        code = end.code
    print(code, sorted({"tensorflow", "keras"} & set(sys.modules)), flush=True)
    print("----", file=sys.stderr)
"""


def test_help_and_mistakes_in_arguments_are_answered_without_tensorflow():
    ended = run_python(
        "-c", SCRIPT, json.dumps([list(arguments) for arguments in ARGUMENTS]), folder=REPOSITORY / "tests"
    )
    answers = [line for line in ended.out.splitlines() if line.endswith("[]")]
    assert answers == [f"{code} []" for code, _ in ARGUMENTS.values()]
    errors = ended.err.split("----\n")
    for (code, message), error in zip(ARGUMENTS.values(), errors, strict=False):
        assert message in (error if code else ended.out)


def test_promise_09_the_command_finds_gradients_that_are_summed_twice():
    target = "support.verified_models:summed_twice"
    ended = run_python("-W", "ignore", "-m", "tfdist.verify", target, "--steps=2", folder=REPOSITORY / "tests")
    assert ended.code == 1, ended.err[-3000:]
    assert ended.out.count("DIFFERS, first in the gradient of summed_twice/dense/kernel: outputs and loss agree") == 3
    assert "The gradients are 2 times one device's: the train_step multiplies" in ended.out
    assert "Traceback" not in ended.err
    # One line for each training that begins, and none of what the trainings themselves log.
    one, two = "tfdist: training on one device", "tfdist: training on 2 replicas"
    assert [line for line in ended.err.splitlines() if line.startswith("tfdist: ")] == [
        *(f"{one}, {rows} rows a batch." for rows in (16, 17, 1)),
        *(f"{one}, {rows} rows a batch in reverse order: the differences are rounding." for rows in (16, 17)),
        *(f"{two}, {rows} rows a batch." for rows in (16, 17, 1)),
    ]
