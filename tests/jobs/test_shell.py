"""The scripts of containers, in a real bash: exit codes, SIGTERM, and the log on the run's volume."""

import pytest
from support.scripts import NOTHING, PROGRAM, run_script

from tfdist.jobs import JobConfig
from tfdist.jobs.shell import command_line, container_lines, once, restarted

PROGRAMS = {"python": PROGRAM, "sleep": NOTHING}


def make_config(run_dir=None, **more):
    volumes = (f"runs:{run_dir.parent}",) if run_dir else ()
    run_dir = run_dir and str(run_dir)
    return JobConfig(target="tfjob", image="a", command=("a.py",), volumes=volumes, run_dir=run_dir, **more)


def command(config):
    return command_line(config, run_dir=config.run_dir, data_dir=None)


@pytest.mark.parametrize("code", [0, 1, 2, 75, 76, 77, 137])
def test_a_container_ends_with_the_code_of_its_worker(code, tmp_path):
    ended = run_script(once(command(make_config()), before=[]), tmp_path, PROGRAMS, [code])
    assert (ended.code, ended.out, ended.err) == (code, "program a.py\n", "")


def test_a_container_that_is_asked_to_stop_waits_until_its_worker_has_saved(tmp_path):
    ended = run_script(once(command(make_config()), before=[]), tmp_path, PROGRAMS, ["asked"])
    assert (ended.code, ended.out) == (75, "program a.py\nsaved\n")


@pytest.mark.parametrize(
    ("codes", "end", "runs"),
    [
        ([0], 0, 1),
        ([2], 2, 1),
        ([77], 77, 1),
        ([75, 76, 0], 0, 3),
        ([124, 1, 0], 0, 3),
        ([1, 1, 1, 0], 1, 3),
        # One that was asked to stop counts as no failure.
        ([75, 75, 75, 1, 1, 0], 0, 6),
        (["asked", 0], 138, 1),
        ([76, "asked", 0], 138, 2),
    ],
)
def test_the_command_starts_again_after_codes_that_ask_for_it(codes, end, runs, tmp_path):
    config = make_config(max_restarts=2)
    ended = run_script(restarted(config, command(config), before=[], asked_code=138), tmp_path, PROGRAMS, codes)
    assert (ended.code, ended.out.count("program a.py\n"), ended.err) == (end, runs, "")


def test_the_lines_of_all_starts_are_in_the_log_of_the_run(tmp_path):
    config = make_config(tmp_path / "a b" / "run")
    script = restarted(config, command(config), before=container_lines(config), asked_code=138)
    # The second in which the log is written, without the pause before a start.
    programs = {"python": PROGRAM, "sleep": '#!/bin/bash\n[ "$1" = 1 ] && exec /bin/sleep 1\n'}
    ended = run_script(script, tmp_path, programs, [75, 2], environ={"HOSTNAME": "digits-0"})
    lines = f"program a.py --run_dir={config.run_dir}\n" * 2
    assert (ended.code, ended.out) == (2, lines)
    assert (tmp_path / "a b" / "run" / "logs" / "digits-0.log").read_text() == lines


def test_packages_come_first_and_without_them_nothing_starts(tmp_path):
    config = make_config(pip_packages=("a", "b>=2"), conda_packages=("c",))
    script = once(command(config), before=container_lines(config))
    programs = PROGRAMS | {"conda": '#!/bin/bash\necho "conda $*"\n'}
    ended = run_script(script, tmp_path, programs, [0, 0])
    packages = ["conda install --yes --quiet c", "program -m pip install --quiet a b>=2"]
    assert ended.out.splitlines() == [*packages, "program a.py"]
    (tmp_path / "other").mkdir()
    ended = run_script(script, tmp_path / "other", programs, [1, 0])
    assert (ended.code, ended.out.splitlines()) == (1, packages)
