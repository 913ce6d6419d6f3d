"""The whole command `python -m tfdist.doctor`: on one machine, on two workers, and with red lines."""

import json
import re
import sys

import pytest
from support.processes import REPOSITORY, run_python, run_together, run_workers

from tfdist.cluster.ports import free_ports
from tfdist.doctor import command as doctor
from tfdist.doctor.acceptance.checks import NAMES
from tfdist.doctor.lines import Line
from tfdist.run import manifest
from tfdist.run.manifest import FolderWriter
from tfdist.run.rundir import RunDir

NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}
BROKEN = "raise ImportError('libcudart is missing')"


def lines_of(ended, name):
    return [line for line in json.loads(ended.out)["lines"] if line["name"] == name]


@pytest.mark.multi_worker
def test_two_workers_are_well_and_sum_for_real(tmp_path):
    for step in (10, 20):
        folder = RunDir(tmp_path).checkpoint(step)
        folder.mkdir(parents=True)
        writer = FolderWriter(folder)
        writer.write_json("state.json", {"step": step})
        manifest.write_manifest(folder, {"step": step, "files": writer.files})
    # The newest checkpoint is damaged.
    (folder / "state.json").write_text("{")
    command = ["-m", "tfdist.doctor", tmp_path, "--json", "--dataset=digits", "--global_batch=100"]
    ended = run_workers(*command, environ=NO_GPU, deadline_seconds=120)
    for rank, worker in enumerate(ended):
        told = json.loads(worker.out)
        levels = {line["name"]: line["level"] for line in told["lines"] if line["name"] not in ("memory", "disk")}
        assert set(levels.values()) - {"warn"} == {"ok", "FAIL"}, worker.out + worker.err[-2000:]
        assert [line["name"] for line in told["lines"] if line["level"] == "FAIL"] == ["checkpoints"]
        assert (worker.code, told["ok"]) == (1, False)
        whole, torn = lines_of(worker, "checkpoints")
        assert (whole["level"], whole["text"]) == ("ok", "step 10 is whole")
        assert torn["text"].startswith("step 20: ") and "state.json" in torn["text"]
        assert f"worker {rank} of 2" in lines_of(worker, "cluster")[0]["text"]
        assert lines_of(worker, "workers")[0]["text"].startswith("all 2 are here")
        (summed,) = lines_of(worker, "all-reduce")
        assert summed["text"].startswith("16 MiB over 2 replicas in ")
        assert summed["text"].endswith(" GB/s; the sums are right")
        assert [line["text"] for line in lines_of(worker, "data")] == [
            "digits/train: 1438 rows, 15 steps of 100 (the last one 38)",
            "worker 0: 719 rows on 1 replica",
            "worker 1: 719 rows on 1 replica",
        ]
        assert "Traceback" not in worker.err


@pytest.mark.multi_worker
def test_promise_19_a_tensorflow_that_does_not_load_on_one_worker_is_told_to_all(tmp_path):
    (tmp_path / "tensorflow.py").write_text(BROKEN)
    broken = NO_GPU | {"PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}
    environs = with_cluster([NO_GPU, broken])
    command = ("-m", "tfdist.doctor", "--json", "--timeout_seconds=60")
    ended = run_together([command] * 2, environs, 90, REPOSITORY)
    for worker in ended:
        assert worker.code == 1, worker.err[-2000:]
        (met,) = lines_of(worker, "workers")
        assert met["level"] == "FAIL"
        assert met["text"].endswith('tensorflow: "loads" on worker 0, "does not load" on worker 1')
        assert lines_of(worker, "all-reduce") == []
    assert lines_of(ended[1], "loading")[0]["text"] == "TensorFlow does not load: ImportError: libcudart is missing"


@pytest.mark.slow
def test_the_acceptance_trains_here_and_writes_its_page(tmp_path):
    command = ("-m", "tfdist.doctor", "--acceptance", "--only=predict,compression_bfloat16")
    ended = run_python(*command, environ=NO_GPU, deadline_seconds=240, folder=tmp_path)
    assert ended.code == 0, ended.out + ended.err[-2000:]
    assert (tmp_path / "tfdist-acceptance.txt").read_text() == ended.out
    _, table, last = ended.out.split("\n\n")
    assert "machine is OneDeviceStrategy, 1 replica; split is two logical CPU devices, mirrored." in ended.out
    found = [line.split()[:3] for line in table.splitlines()[1:]]
    assert found == [
        ["machine", "compression_bfloat16", "not"],
        ["machine", "predict", "right"],
        ["split", "compression_bfloat16", "right"],
        ["split", "predict", "right"],
    ]
    assert last.startswith("ALL RIGHT: 3 right, 1 not here; ")


def with_cluster(environs, workers=None):
    """Adds TF_CONFIG for each of the first workers of a cluster."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(workers or len(environs))]
    return [
        environ
        | {"TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}})}
        for rank, environ in enumerate(environs)
    ]


def test_promise_17_a_worker_alone_in_its_cluster_is_red_and_no_traceback(tmp_path):
    (tmp_path / "tensorflow.py").write_text(BROKEN)
    (environ,) = with_cluster([NO_GPU | {"PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}], workers=2)
    wrong = environ | {"TF_CONFIG": "{cluster"}
    command = ("-m", "tfdist.doctor", tmp_path / "none", "--timeout_seconds=3", "--dataset=digit")
    alone, mistaken = run_together([command] * 2, [environ, wrong], 60, tmp_path)
    assert (alone.code, mistaken.code) == (1, 1)
    assert "FAIL  workers       1 of 2 workers missing 3 s after the first one started: worker 1 (" in alone.out
    assert "-> Start it, or see there why it does not start; every worker needs the same list of workers" in alone.out
    assert f"FAIL  checkpoints   there is no folder {tmp_path / 'none'}" in alone.out
    assert "FAIL  loading       TensorFlow does not load: ImportError: libcudart is missing" in alone.out
    assert "FAIL  cluster       TF_CONFIG: not JSON at line 1, column 2" in mistaken.out
    assert "FAIL  loading" in mistaken.out
    assert "\033" not in alone.out
    assert "Traceback" not in alone.err + mistaken.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data_dir=a"], "--data_dir needs --dataset. Give the name of the data set in that folder."),
        (["--timeout_seconds=0"], "--timeout_seconds is 0. Use a number above 0."),
        (["--timeout_seconds=nan"], "--timeout_seconds is nan. Use a number above 0."),
        (["--global_batch=0"], "--global_batch is 0. Use 1 or more."),
        (["--acceptance", "--dataset=digits"], "--acceptance does not go with --dataset. Leave one of them out."),
        (["--acceptance", "runs/a"], "--acceptance does not go with --run_dir. Leave one of them out."),
        (["--acceptance", "--json"], "--acceptance does not go with --json. Leave one of them out."),
        (["--environment", "--dataset=digits"], "--environment does not go with --dataset. Leave one of them out."),
        (["--acceptance", "--environment"], "--acceptance does not go with --environment. Leave one of them out."),
        (["--acceptance", "--only=mlp,predicts"], "--only: 'predicts' is no check. Use some of mlp, cnn_batchnorm,"),
        (["--acceptance", "--only="], "--only is empty. Use some of mlp, cnn_batchnorm,"),
        (
            ["--acceptance", "--only", "mlp", "gather_rows"],
            "'gather_rows' is not a flag. Write commas between the names of checks, without spaces: "
            "--only=mlp,gather_rows.",
        ),
        (
            ["--acceptance", "--only", "mlp", "predict", "evaluate"],
            "'evaluate' is not a flag. Write commas between the names of checks, without spaces: --only=",
        ),
        (["runs/a", "runs/b"], "'runs/b' is not a flag. Write --name=value; see python -m tfdist.doctor --help."),
        (["--only=mlp"], "--only chooses among the checks of --acceptance. Add --acceptance, or leave it out."),
        (["--data=a"], "Unknown command line flag 'data'. Did you mean: data_dir, dataset ?"),
    ],
)
def test_a_wrong_command_line_is_one_message_and_exit_code_2(arguments, message, capsys):
    assert doctor.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"tfdist.doctor: {message}") and error.count("\n") == 1


@pytest.fixture
def findings(monkeypatch):
    """Returns a function that plants the lines of a check."""

    def plant(*lines):
        monkeypatch.setattr(doctor, "examine", lambda options: iter(lines))

    return plant


@pytest.mark.parametrize(("level", "code"), [("ok", 0), ("warn", 0), ("FAIL", 1)])
def test_the_exit_code_is_1_where_something_is_red(findings, capsys, level, code):
    findings(Line("ok", "a", "fine"), Line(level, "b", "c"))
    assert doctor.main([]) == code
    assert capsys.readouterr().out == f"ok    a             fine\n{level:<4}  b             c\n"
    assert doctor.main(["--json"]) == code
    assert json.loads(capsys.readouterr().out)["ok"] == (code == 0)


def test_the_help_names_each_check(capsys):
    with pytest.raises(SystemExit):
        doctor.main(["--help"])
    assert set(NAMES) <= set(re.findall(r"\w+", capsys.readouterr().out))


def test_a_flag_without_its_dashes_is_no_folder_of_a_run():
    ((line),) = doctor._check_run("acceptance")
    assert line.cure == "Give the folder of a run, as runs/name-1, or did you mean --acceptance?"
    ((line),) = doctor._check_run("runs/none")
    assert line.cure == "Give the folder of a run, as runs/name-1."


def test_colours_are_for_terminals_alone(findings, capsys, monkeypatch):
    findings(Line("warn", "a", "b"))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    doctor.main([])
    assert capsys.readouterr().out == "\033[33mwarn\033[0m  a             b\n"
    monkeypatch.setenv("NO_COLOR", "1")
    doctor.main([])
    assert capsys.readouterr().out == "warn  a             b\n"


def test_ctrl_c_ends_it_quietly(monkeypatch, capsys):
    def interrupted(options):
        yield Line("ok", "a", "b")
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "examine", interrupted)
    assert doctor.main([]) == 130
    assert capsys.readouterr().err == ""


def test_a_data_set_that_cannot_be_is_red_without_tensorflow(monkeypatch, tmp_path):
    def ask(self, do, **_):
        assert do == "load"
        return {"tensorflow": "2.21.0", "keras": "3.15.1", "cuda": False, "gpus": [], "tpu_signs": ["TPU_NAME"]}

    monkeypatch.setattr(doctor.ChildGroup, "ask", ask)
    monkeypatch.setenv("TF_CONFIG", "{}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("TPU_NAME", "x")
    options = doctor.read_config(["--dataset=images", f"--data_dir={tmp_path / 'none'}"])
    *_, tpu, devices, line = doctor.examine(options)
    assert (tpu.text, devices.text.startswith("no GPU")) == ("'x' is a TPU elsewhere, which is not tried here", True)
    assert (line.level, line.name) == ("FAIL", "data")
    assert line.text == f"images: data_dir is '{tmp_path / 'none'}': no such folder"
