"""`python -m tfdist.train` as a user runs it: its output, its files, and how it goes on."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import keras
import pytest
from support.processes import REPOSITORY
from support.small_files import write_images

from tfdist.process import exits
from tfdist.run import rundir
from tfdist.train import command as train
from tfdist.train import flags as command_line

pytestmark = pytest.mark.slow

SMALL = ["--model=mlp", "--strategy=one_device", "--epochs=2"]


def read_summary(folder):
    return json.loads((folder / "summary.json").read_text())


def test_the_default_run_reaches_98_percent_on_two_replicas(tmp_path, monkeypatch, capsys, caplog):
    monkeypatch.chdir(tmp_path)
    with caplog.at_level("INFO", "tfdist"):
        assert train.main(["--strategy=mirrored"]) == 0
    run = tmp_path / "runs" / "digits_cnn-1"
    summary = read_summary(run)
    assert summary["metrics"]["accuracy"] >= 0.98
    assert (summary["replicas"], summary["strategy"]) == (2, "MirroredStrategy")
    assert (summary["steps"], summary["examples_seen"]) == (20 * 45, 20 * 1438)
    assert summary["examples_per_second"] > 0
    assert set(summary["versions"]) == {"tfdist", "tensorflow", "keras", "numpy", "python"}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines if "event" in line] == ["start", *["checkpoint"] * 20, "end"]
    epochs = [line for line in lines if "event" not in line]
    assert [line["epoch"] for line in epochs] == list(range(1, 21))
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "examples_per_second", "step", "learning_rate"} < set(
        epochs[0]
    )
    assert json.loads((run / "config.json").read_text())["strategy"] == "mirrored"
    assert len(list(run.glob("tensorboard/**/events.out.tfevents.*"))) >= 1
    out = capsys.readouterr().out.splitlines()
    # A machine that is slow enough has lines within epochs too.
    assert next(line[:17] for line in out if line.startswith("epoch ") and "  step " not in line) == "epoch 1/20  loss "
    assert out[-2].startswith("test loss ")
    assert re.search(r", 2 replicas, \d+ s in all\)$", out[-2])
    assert out[-1] == "runs/digits_cnn-1"
    parameters = f"{keras.saving.load_model(run / 'model.keras').count_params():,} parameters"
    start = rf"run_dir runs/digits_cnn-1: model \w+, {parameters}, [\d,]+ of them trained; "
    assert re.search(start + "Adam with a learning rate of 0.002; 2 replicas of MirroredStrategy", caplog.text)


def test_a_finished_run_is_not_trained_again_and_a_longer_one_goes_on_also_with_other_calls(tmp_path, capsys, caplog):
    flags = [*SMALL, f"--run_dir={tmp_path}"]
    assert train.main(flags) == 0
    first = read_summary(tmp_path)
    assert train.main(flags) == 0
    assert read_summary(tmp_path) == first
    assert "the run is finished; nothing to do." in capsys.readouterr().out
    with caplog.at_level("INFO", "tfdist"):
        assert train.main([*SMALL[:2], "--epochs=3", "--steps_per_execution=auto", f"--run_dir={tmp_path}"]) == 0
    assert "steps_per_execution: auto chose up to " in caplog.text
    assert json.loads((tmp_path / "config.json").read_text())["steps_per_execution"] == "auto"
    assert capsys.readouterr().out.startswith("epoch 3/3")
    straight = tmp_path / "straight"
    assert train.main([*SMALL[:2], "--epochs=3", f"--run_dir={straight}"]) == 0
    assert read_summary(tmp_path)["weights_sha256"] == read_summary(straight)["weights_sha256"]


def test_a_folder_of_another_run_is_refused_by_every_difference(tmp_path, capsys):
    assert train.main(["--model=mlp", "--strategy=one_device", "--steps=2", f"--run_dir={tmp_path}"]) == 0
    for flag, difference in (
        ("--seed=9", "seed is 0 there, and 9 here. Use"),
        ("--learning_rate=0.5", "learning_rate is 0.002 there, and 0.5 here. Use"),
        ("--schedule=cosine", "schedule is 'constant' there, and 'cosine' here. Use"),
        ("--model=cnn", "model is 'mlp' there, and 'cnn' here"),
        ("--global_batch=64 --seed=9", "global_batch is 32 there, and 64 here; seed is 0 there, and 9 here. Use"),
        ("--compression=bfloat16", "compression is 'none' there, and 'bfloat16' here. Use the flags of that run"),
    ):
        flags = [*flag.split(), f"--run_dir={tmp_path}"]
        assert train.main(["--model=mlp", "--strategy=one_device", "--steps=2", *flags]) == 2
        assert f"holds another run: {difference}" in capsys.readouterr().err


def test_a_run_along_a_cosine_has_one_length(tmp_path):
    config = command_line.read_config(["--schedule=cosine", "--epochs=2", f"--run_dir={tmp_path}"])
    run = rundir.RunDir(tmp_path)
    rundir.write_json(run.config, config.to_dict())
    rundir.write_json(run.summary, {})
    assert train.choose_run(config) == run
    with pytest.raises(ValueError) as error:
        train.choose_run(config.replace(epochs=3))
    assert str(error.value) == (
        f"run_dir {tmp_path} holds another run: length is '2 epochs' there, and '3 epochs' here. Use the flags of that "
        "run (other devices and other workers are fine), or another run_dir. If you mean the change, use "
        "--resume_with_changes."
    )


def test_a_summary_that_is_torn_is_one_message(tmp_path, capsys):
    flags = ["--model=mlp", "--strategy=one_device", "--steps=2", f"--run_dir={tmp_path}"]
    assert train.main(flags) == 0
    (tmp_path / "summary.json").write_text("{")
    assert train.main(flags) == 2
    assert "summary.json: not JSON" in capsys.readouterr().err


def test_a_folder_of_images_is_trained_end_to_end(tmp_path):
    write_images(tmp_path / "images")
    recipe = tmp_path / "ants.py"
    recipe.write_text(
        "from tfdist import RunConfig\n"
        "def recipe():\n"
        "    return RunConfig(name='ants', dataset='images', dataset_options={'image_size': (6, 8)}, test_split=None,\n"
        f"                     data_dir={str(tmp_path / 'images')!r}, global_batch=5, epochs=3)\n"
    )
    assert train.main([f"--recipe={recipe}", f"--run_dir={tmp_path / 'run'}"]) == 0
    summary = read_summary(tmp_path / "run")
    assert (summary["steps"], summary["examples_seen"], summary["metrics"]) == (15, 69, {})


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_leaves_a_run_that_can_go_on(tmp_path, presses):
    command = [
        sys.executable,
        "-m",
        "tfdist.train",
        "--strategy=one_device",
        "--epochs=100000",
        f"--run_dir={tmp_path}",
    ]
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for _ in range(3):
            assert process.stdout.readline().startswith("epoch")
        for _ in range(presses):
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in err
    steps = [int(path.name[5:]) for path in pathlib.Path(tmp_path, "checkpoints").iterdir()]
    assert f"tfdist.train: stopped after step {max(steps)}. Go on with --run_dir={tmp_path}" in out or presses == 2
    assert not list(pathlib.Path(tmp_path).glob("**/*.partial*"))
    done = max(steps)
    assert train.main(["--strategy=one_device", f"--steps={done + 1}", f"--run_dir={tmp_path}", "--resume=must"]) == 0
    assert read_summary(tmp_path)["steps"] == done + 1


def test_promise_22_sigterm_in_the_last_evaluation_asks_for_another_start(tmp_path, monkeypatch):
    from tfdist.assembly import assemble

    evaluate = assemble.evaluate

    def evaluate_when_stopped(*arguments):
        signal.raise_signal(signal.SIGTERM)
        return evaluate(*arguments)

    flags = [*SMALL, f"--run_dir={tmp_path}"]
    monkeypatch.setattr(assemble, "evaluate", evaluate_when_stopped)
    with pytest.raises(SystemExit) as left:
        train.main(flags)
    assert left.value.code == exits.STOPPED
    assert not (tmp_path / "summary.json").exists()
    monkeypatch.setattr(assemble, "evaluate", evaluate)
    assert train.main(flags) == 0
    assert read_summary(tmp_path)["steps"] == 2 * 45


def test_promise_38_the_learning_rate_is_derived_from_the_replicas_and_printed(tmp_path, monkeypatch, caplog):
    """16 rows a replica: 32 on two replicas, 48 on three, and the rate follows."""
    monkeypatch.chdir(tmp_path)
    wishes = [
        "--strategy=mirrored",
        "--optimizer=lars",
        "--learning_rate=0.1",
        "--base_batch=16",
        "--warmup_epochs=0.5",
    ]
    for replicas, rate, batch, warmup in ((2, "0.2", 32, 23), (3, "0.3", 48, 15)):
        run = tmp_path / str(replicas)
        flags = ["--model=mlp", "--steps=2", "--replica_batch=16", f"--replicas={replicas}", f"--run_dir={run}"]
        with caplog.at_level("INFO", "tfdist"):
            assert train.main([*wishes, *flags]) == 0
        line = f"learning rate 0.1 for 16 rows -> {rate} for {batch} rows (linear), warm-up over 0.5 epochs = {warmup}"
        assert line in caplog.text
        assert json.loads((run / "config.json").read_text())["global_batch"] == batch
        model = keras.saving.load_model(run / "model.keras")
        assert float(model.optimizer.learning_rate) == pytest.approx(2 / warmup * float(rate))


RECIPE = """import keras
from tfdist import RunConfig, data

def make_model():
    x = keras.Input((8, 8, 1))
    return keras.Model(x, keras.layers.Dense(-1)(x))

def make_data(split, global_batch, seed):
    return data.load("digitz", split=split)

def make_optimizer():
    return keras.optimizers.SGD(learning_rate=None)

def recipe():
    return RunConfig({fields})
"""


@pytest.mark.parametrize(
    ("fields", "line", "message"),
    [
        ("model=make_model, model_options={}", "line 6, in make_model", "ValueError: "),
        ("dataset=make_data", "line 9, in make_data", "tfdist.process.errors.UsageError: "),
        ("optimizer=make_optimizer, learning_rate=None", "line 12, in make_optimizer", "Error: "),
    ],
)
def test_what_a_recipes_functions_raise_shows_the_users_own_line(fields, line, message, tmp_path, capsys):
    recipe = tmp_path / "mine.py"
    recipe.write_text(RECIPE.replace("{fields}", fields))
    run = tmp_path / "run"
    assert train.main([f"--recipe={recipe}", "--strategy=one_device", "--steps=1", f"--run_dir={run}"]) == 2
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.startswith(f"tfdist.train: {recipe}: make_")
    assert first.endswith("(): your code raised an error.")
    assert f'  File "{recipe}", {line}' in rest
    assert sum(text.startswith("  File ") for text in rest) == 1
    assert message in "\n".join(rest)
    assert not run.exists()


def test_an_error_in_training_keeps_its_whole_traceback(tmp_path):
    recipe = tmp_path / "mine.py"
    recipe.write_text(
        "import keras\nfrom tfdist import RunConfig\n\n"
        "class Own(keras.Model):\n    def call(self, x):\n        raise ValueError('of its own')\n\n"
        "def recipe():\n    return RunConfig(model=Own, model_options={}, steps=1)\n"
    )
    with pytest.raises(ValueError, match="of its own"):
        train.main([f"--recipe={recipe}", "--strategy=one_device", f"--run_dir={tmp_path / 'run'}"])
