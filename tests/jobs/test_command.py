"""The command line, its messages and its help."""

import pytest
from support.processes import run_python

from tfdist.jobs import JobConfig, job_text
from tfdist.jobs.command import main


def test_the_text_is_printed_and_nothing_else(capsys):
    assert main(["slurm", "--node_count=2", "--run_dir=/runs/1", "--", "-m", "tfdist.train", "--", "x"]) == 0
    command = ("-m", "tfdist.train", "--", "x")
    config = JobConfig(target="slurm", node_count=2, run_dir="/runs/1", command=command)
    assert capsys.readouterr() == (job_text(config), "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "target is not given. Use one of slurm, kubernetes, tfjob, azureml."),
        ("slrum -- a.py", "target is 'slrum'. Use one of"),
        ("slurm -m tfdist.train", "'-m' is not a flag. Put what is to run after ` -- `: … -- -m tfdist.train"),
        ("slurm a.py", "'a.py' is not a flag. Put what is to run after ` -- `: … -- a.py"),
        ("slurm --nodes=2 -- a.py", "Unknown command line flag 'nodes'. Did you mean --node_count?"),
        ("slurm --partition=a -- a.py", "Unknown command line flag 'partition'. Did you mean --queue?"),
        ("slurm --node_count=two -- a.py", "flag --node_count=two: value should be a whole number"),
    ],
)
def test_a_mistake_is_one_line(arguments, message, capsys):
    assert main(arguments.split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"tfdist.jobs: {message}")


def test_help_loads_no_tensorflow():
    script = (
        "import sys; from tfdist.jobs.command import main\ntry: main(['--help'])\n"
        "finally: print(sorted({'tensorflow', 'keras', 'numpy', 'yaml'} & set(sys.modules)))"
    )
    ended = run_python("-c", script, deadline_seconds=20)
    assert ended.code == 0 and ended.out.endswith("[]\n")
