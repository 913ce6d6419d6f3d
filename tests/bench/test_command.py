"""Checks `python -m tfdist.bench` as a whole: small runs, and what it refuses. No time is asserted."""

import importlib.util
import json

import pytest
from support.bench_reports import bench_report
from support.processes import REPOSITORY, run_python

from tfdist.bench import command as bench
from tfdist.bench import config
from tfdist.options.command_line import make_flags

pytestmark = pytest.mark.slow

SMALL = (
    *("--model=bench_models:tiny", "--input_shape=4", "--classes=3", "--rows=64", "--replica_batch=8"),
    *("--rounds=2", "--seconds=0.02", "--optimizer=sgd", "--steps_per_execution=4"),
)
PATH = {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests' / 'support'}", "CUDA_VISIBLE_DEVICES": ""}


def run_bench(*arguments, folder):
    return run_python("-m", "tfdist.bench", *arguments, environ=PATH, deadline_seconds=170, folder=folder)


def test_all_contenders_are_measured_reported_and_compared(tmp_path):
    wanted = ("--versus=keras_fit,plain_loop", "--profile_steps=2:6", "--jit_compile=false")
    ended = run_bench(*SMALL, *wanted, folder=tmp_path)
    assert ended.code == 0, ended.err[-3000:]
    folder = tmp_path / "runs" / "bench-1"
    report = json.loads((folder / "bench.json").read_text())
    assert [line["contender"] for line in report["results"]] == ["tfdist_fit", "keras_fit", "plain_loop"]
    losses = [line["loss"]["after_warm_up"] for line in report["results"]]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-4)
    for line in report["results"]:
        assert line["error"] is None
        assert len(line["samples_seconds_per_step"]) == 2
        assert line["loss"]["after_warm_up"] < line["loss"]["first"]
        assert line["peak_memory_bytes"] > 2**26
    found = report["results"][0]["split"]
    assert found["whole"]["median"] > 0 and found["compute"]["median"] > 0
    assert {part["samples"] for part in found.values()} == {2}
    assert "split" in report["results"][1] and report["results"][1]["split"] is None
    assert {"cores", "memory_gib", "gpus"} <= report["hardware"].keys()
    assert report["versions"]["tensorflow"] and "commit" in report
    assert (folder / "bench.png").stat().st_size > 1000
    assert list((folder / "profile").glob("plugins/profile/*/*.xplane.pb"))
    assert "tfdist_fit" in ended.out and f"report: {folder.relative_to(tmp_path) / 'bench.json'}" in ended.out


def test_two_workers_are_measured_and_who_cannot_is_listed(tmp_path):
    ended = run_bench(*SMALL, "--scale=2", "--versus=keras_fit,plain_multi_worker", folder=tmp_path)
    assert ended.code == 0, ended.err[-3000:]
    ours, keras_fit, plain = json.loads((tmp_path / "runs" / "bench-1" / "bench.json").read_text())["results"]
    assert (ours["workers"], ours["global_batch"]) == (2, 16)
    # 4 × 3 weights and 3 biases, of 4 bytes each, pass each of two workers once.
    assert ours["wire_bytes"] == plain["wire_bytes"] == 60
    assert ours["split"]["reduce"]["median"] > 0
    assert plain["loss"]["after_warm_up"] == pytest.approx(ours["loss"]["after_warm_up"], rel=1e-4)
    assert keras_fit["error"]
    assert f"keras_fit 2×1: {keras_fit['error']}" in ended.out


def test_a_model_that_cannot_be_made_is_one_message(tmp_path):
    arguments = ("--model=bench_models:broken", *SMALL[1:], "--versus=plain_loop")
    ended = run_bench(*arguments, folder=tmp_path)
    assert ended.code == 2
    assert "tfdist.bench: tfdist_fit could not be measured: ValueError: no such weights" in ended.err
    assert "Traceback" not in ended.err


@pytest.fixture
def planted(monkeypatch, tmp_path):
    """Returns a function (seconds of a step) → the path of its report, which also plants the next measurement."""

    def plant(*samples):
        results = bench_report(samples)["results"]
        monkeypatch.setattr(bench.session, "run", lambda wishes, folder: (results, {"gpus": []}, []))
        assert bench.main([f"--out_dir={tmp_path / 'old'}"]) == 0
        return tmp_path / "old" / "bench.json"

    return plant


def test_a_planted_slow_down_ends_with_1_and_noise_with_0(planted, tmp_path, capsys):
    path = planted(1.0, 1.02, 0.98)
    again = [f"--against={path}", f"--out_dir={tmp_path / 'new'}"]
    assert bench.main(again) == 0
    old = json.loads(path.read_text())
    rate = old["results"][0]["examples_per_second"]
    rate["mean"] *= 1.5
    path.write_text(json.dumps(old))
    assert bench.main(again) == 1
    assert "SLOWER" in capsys.readouterr().out


def test_without_matplotlib_it_says_so(planted, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "matplotlib" else find(name))
    assert not planted(1.0, 1.1).with_name("bench.png").exists()
    assert "no plot: matplotlib is not installed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--versus=kerasfit"], "--versus names 'kerasfit'. Use some of tfdist_all_reduce, "),
        (["--versus=tfdist_fit"], "tfdist_fit is always measured."),
        (["--scale=1,x"], "flag --scale=1,x: value should be whole numbers with commas between"),
        (["--replicas=0"], "--replicas is 0. Use whole numbers from 1."),
        (["--rounds=1"], "--rounds is 1. Use 2 or more"),
        (["--seconds=0"], "--seconds is 0.0. Use a number above 0."),
        (["--model=mpl"], "no model is called 'mpl'"),
        (["--model=a:"], "--model is 'a:'. Use a name of tfdist.models, or module:build_fn."),
        (["--jit_compile=yes"], "flag --jit_compile=yes: value should be true, false, or auto"),
        (["--profile_steps=9"], "profile_steps is '9'. Use two steps"),
        (["--against=none.json"], "--against=none.json: there is no such file."),
        (["--round=3"], "Unknown command line flag 'round'"),
        (["here"], "'here' is not a flag."),
    ],
)
def test_a_wrong_command_line_is_one_message_and_exit_code_2(arguments, message, capsys):
    assert bench.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("tfdist.bench: ") and error.count("\n") == 1


def test_help_names_every_flag_and_contender(capsys):
    with pytest.raises(SystemExit) as end:
        bench.main(["--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"--{name}:" in shown or f"--[no]{name}:" in shown for name in make_flags(config.BenchConfig))
    assert all(f"  {name} " in shown for name in config.CONTENDERS)


# Flag → (the value on the command line, the value of its field).
CHANGES = {
    "against": (__file__, __file__),
    "classes": ("3", 3),
    "data_dir": ("unused", None),
    "dataset": ("digits", "digits"),
    "input_shape": ("8,8,1", (8, 8, 1)),
    "jit_compile": ("true", True),
    "least_steps": ("2", 2),
    "model": ("cnn", "cnn"),
    "optimizer": ("sgd", "sgd"),
    "out_dir": ("a", "a"),
    "profile_steps": ("1:2", "1:2"),
    "replica_batch": ("32", 32),
    "replicas": ("1,2", (1, 2)),
    "rounds": ("3", 3),
    "rows": ("640", 640),
    "scale": ("1,2", (1, 2)),
    "seconds": ("0.5", 0.5),
    "seed": ("4", 4),
    "steps_per_execution": ("9", 9),
    "sync_batchnorm": ("false", False),
    "timeout_seconds": ("9", 9.0),
    "versus": ("plain_loop", ("plain_loop",)),
}


@pytest.mark.parametrize("name", sorted({*make_flags(config.BenchConfig)} - {"data_dir"}))
def test_a_flag_changes_its_field_and_no_other(name):
    text, value = CHANGES[name]
    read = config.read_config([f"--{name}={text}"])
    default = config.BenchConfig()
    changed = {field: getattr(read, field) for field in CHANGES if getattr(read, field) != getattr(default, field)}
    assert changed == {name: value}


def test_the_points_are_replicas_of_one_process_and_workers_of_one_replica():
    assert config.BenchConfig(scale=(1, 2), replicas=(1, 2)).points == [(1, 1), (1, 2), (2, 1)]
    assert config.BenchConfig(scale=(2,)).points == [(2, 1)]
    assert config.BenchConfig(replicas=(2,)).points == [(1, 2)]
