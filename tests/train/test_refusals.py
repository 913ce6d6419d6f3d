"""The refusals of `tfdist.train`: before TensorFlow is loaded, with one message and exit code 2."""

import json

import pytest
from support.processes import run_python

from tfdist.cluster.ports import free_ports
from tfdist.options.command_line import make_flags
from tfdist.train import flags

TWO = {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}
FREE = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
FIRST = {"type": "worker", "index": 0}

# Name → (flags, TF_CONFIG or None, the message).
CASES = {
    "not JSON": ([], "{cluster: 1}", "TF_CONFIG: not JSON at line 1, column 2"),
    "no task": (
        [],
        json.dumps({"cluster": TWO}),
        "TF_CONFIG: task is missing, so this process does not know which address is its own.",
    ),
    "an index beyond the workers": (
        [],
        json.dumps({"cluster": TWO, "task": {"type": "worker", "index": 2}}),
        "TF_CONFIG: task.index is 2, but cluster.worker lists 2 addresses. Use 0..1, or add the missing worker.",
    ),
    "parameter servers": (
        [],
        json.dumps({"cluster": TWO | {"ps": ["127.0.0.1:3"]}, "task": FIRST}),
        "TF_CONFIG: cluster lists parameter servers (ps)",
    ),
    "an address without a port": (
        [],
        json.dumps({"cluster": {"worker": ["a"]}, "task": FIRST}),
        'TF_CONFIG: cluster.worker[0] is "a", which has no port.',
    ),
    "an unknown flag": (
        ["--epoch=3"],
        None,
        "Unknown command line flag 'epoch'. Did you mean: epochs ? See python -m tfdist.train",
    ),
    "a value of another type": (["--epochs=many"], None, "flag --epochs=many: value should be a whole number"),
    "a value out of range": (["--seed=-1"], None, "seed is -1. Use a whole number from 0 to"),
    "a value that is not on the list": (
        ["--strategy=gpus"],
        None,
        "flag --strategy=gpus: value should be one of <auto|one_device|mirrored|multi_worker|tpu>",
    ),
    "a word too many": (["train"], None, "'train' is not a flag. Write --name=value;"),
    "two kinds of batch": (
        ["--global_batch=64", "--replica_batch=16"],
        None,
        "--global_batch and --replica_batch: each says how many rows a step has. Give one of them.",
    ),
    "epochs and steps": (["--epochs=1", "--steps=2"], None, "epochs is 1 and steps is 2: both"),
    "a recipe that is not there": (["--recipe=x.py"], None, "--recipe=x.py: there is no such file"),
    "an unknown model": (
        ["--model=cnnn"],
        None,
        "models: no model is called 'cnnn'. Did you mean 'cnn'? Known: mlp, cnn, ",
    ),
    "a misspelt data set": (["--dataset=digit"], None, "Did you mean 'digits'?"),
    "a name that no data set can have": (
        ["--dataset=my digits"],
        None,
        "data: the name is 'my digits'. Use name, name/config or name:1.*.*",
    ),
    "images without a folder": (
        ["--dataset=images"],
        None,
        "images: there is no data_dir. Give the folder of images (--data_dir).",
    ),
    "a data_dir that is not there": (
        ["--dataset=images", "--data_dir=nowhere"],
        None,
        "images: data_dir is 'nowhere': no such folder.",
    ),
    "a data_dir for what needs none": (
        ["--data_dir=full"],
        None,
        "digits: data_dir is 'full', but digits needs none. Leave it out.",
    ),
    "a download of what needs none": (["--download"], None, "digits: download is for TFDS names"),
    "must without a run_dir": (
        ["--resume=must"],
        None,
        "resume is 'must', but there is no run_dir to resume. Give the folder of the run.",
    ),
    "must without a checkpoint": (
        ["--resume=must", "--run_dir=full"],
        None,
        "run_dir full has no checkpoint, but resume is 'must'. Check the folder, or use",
    ),
    "never in a full folder": (
        ["--resume=never", "--run_dir=full"],
        None,
        "run_dir full is not empty, but resume is 'never'. Use an empty folder, or resume='auto'.",
    ),
    "a run_dir that is a file": (
        ["--run_dir=full/notes.txt"],
        None,
        "run_dir full/notes.txt is a file. Give a folder.",
    ),
    "an empty run_dir": (["--run_dir="], None, "run_dir is empty. Give a folder, or leave it"),
    "multi_worker without a cluster": (
        ["--strategy=multi_worker"],
        None,
        "--strategy=multi_worker needs a cluster, and there is none in the environment. Set TF_CONFIG on each host",
    ),
    "multi_worker with a number of replicas": (
        ["--strategy=multi_worker", "--replicas=2"],
        None,
        "replicas is 2, but multi_worker takes its number from the devices. Leave it out.",
    ),
    "promise_17: a worker that does not come": (
        ["--start_seconds=0.5"],
        json.dumps({"cluster": FREE, "task": FIRST}),
        f"worker 1 ({FREE['worker'][1]})",
    ),
}

# Runs every case in one process, and prints the exit code, the output and the imported modules of each.
SCRIPT = """
import contextlib, io, json, os, sys
from tfdist.train import command as train

for arguments, tf_config in json.load(open(sys.argv[1])):
    os.environ.pop("TF_CONFIG", None)
    if tf_config is not None:
        os.environ["TF_CONFIG"] = tf_config
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = train.main(arguments)
        except SystemExit as end:
            code = end.code
    heavy = sorted({"tensorflow", "keras"} & set(sys.modules))
    print(json.dumps([code, out.getvalue(), err.getvalue(), heavy]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Returns the folder in which the commands run; it contains a folder that is not empty."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "full").mkdir()
    (folder / "full" / "notes.txt").write_text("mine")
    return folder


@pytest.fixture(scope="module")
def answers(folder, tmp_path_factory):
    """Maps each case to [exit code, stdout, stderr, heavy modules imported]."""
    cases = tmp_path_factory.mktemp("cases") / "cases.json"
    cases.write_text(json.dumps([case[:2] for case in [*CASES.values(), (["--help"], None)]]))
    ended = run_python("-c", SCRIPT, cases, folder=folder, deadline_seconds=60)
    assert ended.code == 0, ended.err
    lines = map(json.loads, ended.out.splitlines())
    return dict(zip([*CASES, "help"], lines, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_a_refusal_is_one_message_and_an_exit_code_before_tensorflow_is_loaded(case, answers):
    code, out, err, heavy = answers[case]
    # 76, after which tfdist.launch starts again, if another worker is late; 2 if only the user can correct it.
    assert (code, out, heavy) == (76 if case.startswith("promise_17") else 2, "", [])
    assert err.startswith("tfdist.train: ")
    assert CASES[case][2] in err
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err


def test_help_names_every_flag_before_tensorflow_is_loaded(answers):
    code, out, err, heavy = answers["help"]
    assert (code, err, heavy) == (0, "", [])
    for name in make_flags(*flags.OPTIONS):
        assert f"--{name}:" in out or f"--[no]{name}:" in out


def test_a_refused_run_leaves_nothing_on_disk(answers, folder):
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")) == [
        "full",
        "full/notes.txt",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "err"),
    [
        (
            ["--epochs=0"],
            2,
            "tfdist.train: epochs is 0. Use a whole number from 1.\n",
        ),
        (["--help"], 0, ""),
    ],
)
def test_the_shell_sees_the_same(arguments, code, err, folder):
    ended = run_python("-m", "tfdist.train", *arguments, folder=folder, deadline_seconds=60)
    assert (ended.code, ended.err) == (code, err)
    assert bool(ended.out) == (code == 0)


def test_a_run_dir_that_cannot_be_made_is_refused_before_training(folder):
    environ = {"CUDA_VISIBLE_DEVICES": ""}
    ended = run_python(
        *("-m", "tfdist.train", "--run_dir=full/notes.txt/deeper", "--steps=1"),
        environ=environ,
        folder=folder,
    )
    assert (ended.code, ended.out) == (2, "")
    last = ended.err.splitlines()[-1]
    assert last.startswith(
        "tfdist.train: run_dir full/notes.txt/deeper cannot be made (Not a directory). Give a folder"
    )
    assert "Traceback" not in ended.err
