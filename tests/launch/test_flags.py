"""The launcher's command line: what it takes, and what it refuses."""

import pytest
from support.processes import run_python

from tfdist.launch.flags import read_config


def test_what_follows_the_dashes_is_left_as_it_is():
    config = read_config(["--workers=2", "--grace=3", "--env=A=b=c", "--", "script.py", "--workers=5", "--", "x"])
    assert config.command == ("script.py", "--workers=5", "--", "x")
    assert (config.size, config.fewest, config.grace, config.environ) == (2, 2, 3.0, {"A": "b=c"})
    hosts = read_config(
        ["--hosts=a,u@b", "--processes_per_host=2", "--min_workers=3", "--max_restarts=1", "--", "x.py"]
    )
    assert (hosts.size, hosts.fewest, hosts.hosts) == (4, 3, ("a", "u@b"))


@pytest.mark.parametrize(
    ("flags", "shown"),
    [((), "0"), (("--tee=all",), "012"), (("--tee=none",), ""), (("--tee=2,1",), "12"), (("--tee=all", "--quiet"), "")],
)
def test_tee_selects_the_workers_whose_lines_are_shown(flags, shown):
    config = read_config(["--workers=3", *flags, "--", "x.py"])
    assert "".join(str(rank) for rank in range(3) if config.shows(rank)) == shown


def test_what_is_lost_is_killed():
    config = read_config(["--workers=3", "--chaos=lose:worker=2,step=5; slow:worker=1,seconds=0.5", "--", "x.py"])
    assert config.faults_text() == "kill:worker=2,step=5;slow:worker=1,seconds=0.5"
    assert [(fault.kind, gone) for fault, gone in config.faults()] == [("kill", True), ("slow", False)]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("-- x.py", "there are no workers to start. Give --workers=N"),
        ("--workers=2", "nothing to run. Put"),
        ("--workers=2 x.py", "'x.py' is not a flag. Put what is to run after"),
        ("--workers=0 -- x.py", "--workers=0: use 1 or more"),
        ("--workers=two -- x.py", "--workers=two"),
        ("--wrkers=2 -- x.py", "Unknown command line flag 'wrkers'"),
        ("--workers=2 --hosts=a -- x.py", "Use --processes_per_host with --hosts"),
        ("--workers=2 --processes_per_host=2 -- x.py", "needs --hosts"),
        ("--hosts=a,a -- x.py", "a is listed twice"),
        ("--hosts=-oProxyCommand=x -- x.py", "is not a host"),
        ("--hosts=a:1 -- x.py", "several colons"),
        ("--hosts=a --port=65536 -- x.py", "Use a number in 1..65535"),
        ("--workers=2 --min_workers=3 -- x.py", "use 1..2, the number of workers"),
        ("--workers=2 --min_workers=1 -- x.py", "Add --max_restarts"),
        ("--workers=2 --grace=-1 -- x.py", "--grace=-1.0: use a number, 0 or more"),
        ("--workers=2 --hang_seconds=nan -- x.py", "--hang_seconds=nan"),
        ("--workers=2 --tee=2 -- x.py", "ranks of 0..1"),
        ("--workers=2 --env=A -- x.py", "write --env=NAME=VALUE"),
        ("--workers=2 --env=TF_CONFIG={} -- x.py", "the launcher itself sets TF_CONFIG"),
        ("--workers=2 --chaos=burn -- x.py", "'burn' is not a kind of fault"),
        ("--workers=2 --chaos=kill:worker=2 -- x.py", "is for none of the workers 0..1"),
        ("--workers=2 -- python x.py", "the launcher starts Python itself"),
        ("--workers=2 -- -m", "what to run is missing"),
        ("--workers=2 --dry_run --tf_config_only -- x.py", "not both"),
    ],
)
def test_a_contradiction_is_refused_with_what_to_do(flags, message):
    with pytest.raises(ValueError) as caught:
        read_config(flags.split())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_command_without_the_dashes_before_it_is_told_where_they_belong():
    with pytest.raises(
        ValueError, match=r"'-m' is not a flag\. Put what is to run after ` -- `: … -- -m tfdist\.train"
    ):
        read_config(["--workers=2", "-m", "tfdist.train", "--epochs=2"])


def test_the_shell_sees_one_line_and_exit_code_2(tmp_path):
    ended = run_python("-m", "tfdist.launch", "--workers=2", deadline_seconds=20, folder=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "tfdist.launch: nothing to run. Put `-m module …` or `script.py …` after ` -- `.\n"
    assert list(tmp_path.iterdir()) == []


def test_help_shows_every_flag_and_leaves_tensorflow_alone():
    script = (
        "import sys; from tfdist.launch.__main__ import main\ntry: main(['--help'])\n"
        "finally: print(sorted({'tensorflow', 'keras', 'numpy'} & set(sys.modules)))"
    )
    ended = run_python("-c", script, deadline_seconds=20)
    assert ended.code == 0 and ended.out.endswith("[]\n")
    for flag in ("--workers", "--hosts", "--max_restarts", "--min_workers", "--hang_seconds", "--chaos", "--tee"):
        assert flag in ended.out


OWN = ("TF_CONFIG", "FAULTS", "ATTEMPT", "RESTARTS_FILE", "HEARTBEAT_DIR", "CAUSES_DIR")


@pytest.mark.parametrize("name", [name if name == "TF_CONFIG" else f"TFDIST_{name}" for name in OWN])
def test_a_variable_that_the_launcher_itself_sets_is_refused(name):
    with pytest.raises(ValueError, match=rf"--env={name}=x: the launcher itself sets {name}\. Leave it out\."):
        read_config(["--workers=2", f"--env={name}=x", "--", "script.py"])
