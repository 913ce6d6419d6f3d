"""Each wrong call of the tables in `support.wrong_calls` has a message with name, value and cure."""

import json
import types

import numpy as np
import pytest
from support.processes import run_python
from support.wrong_calls import COMMANDS, MISTAKE, python_calls

from tfdist.process.errors import TfdistError

CALLS = python_calls()
# Runs command lines in one process; prints for each the code, the output and the heavy modules that were imported.
SCRIPT = """
import contextlib, importlib, io, json, os, sys

MAINS = {name: f"tfdist.{name}.command" for name in ("train", "doctor", "verify", "bench", "report")}
MAINS["launch"] = "tfdist.launch.__main__"
modules = {name: importlib.import_module(module) for name, module in MAINS.items()}
before = dict(os.environ)
for command, flags, environ in json.load(open(sys.argv[1])):
    os.environ.clear()
    os.environ.update(before | dict(environ))
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = modules[command].main(flags)
        except SystemExit as end:
            code = end.code
    heavy = sorted({"tensorflow", "keras"} & set(sys.modules))
    print(json.dumps([code, out.getvalue(), err.getvalue(), heavy]))
"""
# Calls of which Keras itself says what is wrong.
OF_KERAS = {"LARS: momentum"}
LIGHT = [command for command in COMMANDS if not command.loads]
# One of each command, as the shell starts it.
STARTED = {command.command: command for command in reversed(LIGHT)}.values()


def test_the_tables_are_long_enough():
    assert len(CALLS) >= 80
    assert len(COMMANDS) >= 80
    assert len(set(map(str, COMMANDS))) == len(COMMANDS)


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Maps each command line to [exit code, stdout, stderr, heavy modules]."""
    folder = tmp_path_factory.mktemp("work")
    cases = tmp_path_factory.mktemp("cases") / "cases.json"
    cases.write_text(json.dumps([(row.command, row.flags, row.environ) for row in LIGHT]))
    ended = run_python("-c", SCRIPT, cases, folder=folder, deadline_seconds=60)
    assert ended.code == 0, ended.err
    assert list(folder.iterdir()) == []
    return dict(zip(map(str, LIGHT), map(json.loads, ended.out.splitlines()), strict=True))


@pytest.mark.parametrize("row", LIGHT, ids=str)
def test_a_wrong_command_line_is_one_message_and_an_exit_code_before_tensorflow_is_loaded(row, answers):
    code, out, err, heavy = answers[str(row)]
    assert (code, out, heavy) == (row.code, "", [])
    assert err.startswith(f"tfdist.{row.command}: ")
    assert row.message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("row", STARTED, ids=str)
def test_the_shell_sees_the_same(row, tmp_path):
    ended = run_python(
        "-m", f"tfdist.{row.command}", *row.flags, folder=tmp_path, environ=dict(row.environ), deadline_seconds=60
    )
    assert (ended.code, ended.out) == (MISTAKE, "")
    assert row.message in ended.err


@pytest.mark.slow
@pytest.mark.parametrize("row", [command for command in COMMANDS if command.loads], ids=str)
def test_what_only_the_data_show_is_one_message_too_and_leaves_nothing(row, tmp_path):
    ended = run_python("-m", f"tfdist.{row.command}", *row.flags, folder=tmp_path, deadline_seconds=60)
    assert (ended.code, ended.out) == (MISTAKE, "")
    assert row.message in ended.err and "Traceback" not in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def parts(cpus):
    """Returns what the calls are made with."""
    import keras

    import tfdist
    from tfdist.assembly.names import check_names

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    x = np.zeros((8, 4), "float32")
    return types.SimpleNamespace(
        tfdist=tfdist,
        keras=keras,
        model=model,
        optimizer=keras.optimizers.SGD(),
        x=x,
        y=np.zeros((8, 2), "float32"),
        check_names=check_names,
    )


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_is_one_message_that_names_the_argument_and_the_cure(name, parts):
    call, message = CALLS[name]
    with pytest.raises(ValueError) as error:
        call(parts)
    assert message in str(error.value)
    assert isinstance(error.value, TfdistError) or name in OF_KERAS


def test_numpys_whole_numbers_are_whole_numbers(parts):
    history = parts.tfdist.fit(
        *(parts.model, parts.x, parts.y),
        batch_size=np.int64(4),
        epochs=np.int32(2),
        validation_split=np.float32(0.25),
        steps_per_epoch=np.int64(1),
        verbose=np.int64(0),
    )
    assert len(history.history["val_loss"]) == 2
    config = parts.tfdist.RunConfig(epochs=np.int64(3), learning_rate=np.float32(0.5), deterministic=np.True_)
    assert json.loads(json.dumps(config.to_dict()))["epochs"] == 3
    source = parts.tfdist.data.from_arrays(parts.x, parts.y, global_batch=np.int64(4), seed=np.int64(1))
    assert (source.global_batch, parts.tfdist.evaluate(parts.model, source, steps=np.int64(1), verbose=0)) == (4, 0.0)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"keep_checkpoints": 5}, "keep_checkpoints is 5, but it has no effect without run_dir."),
        ({"log_every_steps": 5}, "log_every_steps is 5, but it has no effect without run_dir or verbose=2."),
        (
            {"steps_per_execution": 100_000},
            "steps_per_execution is 100000, but an epoch has 2 steps: a call has at most 2.",
        ),
        ({"initial_epoch": 1}, "initial_epoch is 1, but epochs is 1: no epoch is left to train."),
    ],
)
def test_what_has_no_effect_is_told(parts, caplog, arguments, line):
    def lines(**more):
        caplog.clear()
        with caplog.at_level("INFO", "tfdist"):
            parts.tfdist.fit(parts.model, parts.x, parts.y, batch_size=4, verbose=0, **more)
        return caplog.text

    assert line in lines(**arguments)
    assert "no effect" not in lines() and "at most" not in lines() and "is left" not in lines()
