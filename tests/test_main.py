"""`tfdist COMMAND`: each command by one name, and what is no command."""

import pytest
from support.processes import run_python

from tfdist.__main__ import COMMANDS, main


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_answers_as_its_module_does(name):
    by_name = run_python("-m", "tfdist", name, "--help", deadline_seconds=30)
    assert by_name == run_python("-m", f"tfdist.{name}", "--help", deadline_seconds=30)
    assert by_name.code == 0


def test_the_exit_code_and_the_message_of_a_command_come_through():
    ended = run_python("-m", "tfdist", "train", "--epochs=0", deadline_seconds=30)
    assert (ended.code, ended.out, ended.err) == (2, "", "tfdist.train: epochs is 0. Use a whole number from 1.\n")


@pytest.mark.parametrize("arguments", [[], ["help"], ["--help"], ["-h"]])
def test_the_help_names_every_command(arguments, capsys):
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in COMMANDS)


def test_what_is_no_command_is_told_the_nearest(capsys):
    assert main(["trian", "--epochs=2"]) == 2
    message = (
        "tfdist: there is no command 'trian'. Did you mean 'train'? Use one of train, launch, doctor, verify, bench, "
        "report, jobs, models."
    )
    assert capsys.readouterr().err == f"{message}\n"


def test_the_acceptance_is_found_in_the_doctor(capsys):
    assert main(["acceptance"]) == 2
    assert "'acceptance'. Did you mean python -m tfdist.doctor --acceptance?" in capsys.readouterr().err
