"""Flags are made from the fields of option classes; nothing else has to name them."""

import dataclasses

import pytest
from support.processes import run_python

from tfdist.__main__ import COMMANDS
from tfdist.bench.config import BenchConfig
from tfdist.doctor.config import DoctorConfig
from tfdist.jobs.config import JobConfig
from tfdist.launch.config import LaunchConfig
from tfdist.options.command_line import make_flags, read_given
from tfdist.options.fields import option
from tfdist.report.config import ReportConfig
from tfdist.train.flags import OPTIONS
from tfdist.verify.config import VerifyConfig

CLASSES = {
    "train": OPTIONS,
    "launch": (LaunchConfig,),
    "bench": (BenchConfig,),
    "verify": (VerifyConfig,),
    "doctor": (DoctorConfig,),
    "report": (ReportConfig,),
    "jobs": (JobConfig,),
}
# Its arguments are names.
WITHOUT_FLAGS = {"models"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Within:
    """Options within others."""

    mode: bool | str | None = option("auto", words=("auto",), help="The mode.")
    most: int | str = option("all", words=("all",), flag="most_rows", help="The most rows.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial."""

    text: str | None = option(None, help="A text.", shown="this one")
    count: int = option(0, help="A count.")
    rate: float | None = option(0.5, help="A rate.")
    loud: bool = option(True, help="A switch.")
    colour: str = option("red", choices=("red", "blue"), help="A colour.")
    sizes: tuple[int, ...] = option((1, 2), help="Sizes.")
    names: tuple[str, ...] = option((), help="Names.")
    pairs: tuple[str, ...] = option((), repeated=True, help="Pairs")
    within: Within = dataclasses.field(default_factory=Within)
    unnamed: int = 3


def read(*arguments, **more):
    return read_given((Trial,), arguments, command="trial", usage="A trial.\n", **more)


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ([], {}),
        (["--text=a,b"], {"text": "a,b"}),
        (["--count=-3", "--rate", "1e-3"], {"count": -3, "rate": 1e-3}),
        (["--loud"], {"loud": True}),
        (["--noloud"], {"loud": False}),
        (["--loud=false"], {"loud": False}),
        (["--colour=blue"], {"colour": "blue"}),
        (["--sizes=8, 9"], {"sizes": (8, 9)}),
        (["--names=a, b", "--pairs=A=1,2", "--pairs=B"], {"names": ("a", "b"), "pairs": ("A=1,2", "B")}),
        (["--names="], {"names": ()}),
        (["--mode=auto"], {"mode": "auto"}),
        (["--mode=true"], {"mode": True}),
        (["--mode=false", "--most_rows=all"], {"mode": False, "most_rows": "all"}),
        (["--most_rows=7"], {"most_rows": 7}),
        # As many as the default: given all the same.
        (["--count=0"], {"count": 0}),
    ],
)
def test_only_what_is_given_is_read_with_the_type_of_its_field(arguments, given):
    assert read(*arguments) == given


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count=x"], "flag --count=x: value should be a whole number. See python -m trial --help."),
        (["--rate=x"], "flag --rate=x: value should be a number. See"),
        (["--sizes=1,x"], "flag --sizes=1,x: value should be whole numbers with commas between. See"),
        (["--mode=yes"], "flag --mode=yes: value should be true, false, or auto. See"),
        (["--most_rows=1.5"], "flag --most_rows=1.5: value should be a whole number, or all. See"),
        (["--colour=green"], "flag --colour=green: value should be one of <red|blue>. See"),
        (["--noloud=true"], "--noloud=true does not take an argument. See"),
        (["--unnamed=3"], "Unknown command line flag 'unnamed'. Did you mean: names ? See"),
        (["word"], "'word' is not a flag. Write --name=value; see python -m trial --help."),
    ],
)
def test_a_wrong_value_is_one_message_that_says_what_to_write(arguments, message):
    with pytest.raises(ValueError) as error:
        read(*arguments)
    assert message in str(error.value)


def test_the_value_of_one_flag_may_stand_alone_before_and_after_others():
    assert read("--count=2", "here", first="text") == read("here", "--count=2", first="text")
    assert read("here", "--count=2", first="text") == {"text": "here", "count": 2}
    for arguments in (("a", "b"), ("--text=a", "b")):
        with pytest.raises(ValueError, match="'b' is not a flag"):
            read(*arguments, first="text")


def test_the_values_of_a_flag_for_several_may_all_stand_alone():
    assert read("a", "--count=2", "b,c", first="names") == {"names": ("a", "b,c"), "count": 2}
    assert read("--names=a,b", first="names") == {"names": ("a", "b")}
    with pytest.raises(ValueError, match="'c' is not a flag"):
        read("--names=a,b", "c", first="names")


def test_the_help_shows_usage_then_flags_with_choices_and_defaults(capsys):
    with pytest.raises(SystemExit):
        read("--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith("A trial. --colour: <red|blue>: A colour. Default: red. --count: A count. Default: 0.")
    assert "--[no]loud: A switch. Default: true." in shown
    assert "--mode: The mode. Default: auto. (true, false, or auto)" in shown
    assert "--names: Names. (words with commas between)" in shown
    assert "--rate: A rate. Default: 0.5. (a number)" in shown
    assert "--sizes: Sizes. Default: 1,2." in shown
    assert "--text: A text. Default: this one." in shown
    assert "unnamed" not in shown


def test_a_new_field_is_a_flag_at_once():
    fields = [("fresh", int, option(4, help="A new one."))]
    wider = dataclasses.make_dataclass("Wider", fields, bases=(Trial,), frozen=True, kw_only=True)
    assert {*make_flags(wider)} == {*make_flags(Trial), "fresh"}
    assert read_given((wider,), ["--fresh=9"], command="trial", usage="") == {"fresh": 9}
    assert wider(fresh=9).fresh == 9


def test_every_command_has_its_row():
    assert CLASSES.keys() | WITHOUT_FLAGS == COMMANDS.keys()


@pytest.mark.parametrize("command", CLASSES)
def test_the_help_of_a_command_names_each_of_its_flags(command):
    ended = run_python("-m", f"tfdist.{command}", "--help", deadline_seconds=30)
    assert (ended.code, ended.err) == (0, "")
    flags = make_flags(*CLASSES[command])
    for name in flags:
        assert f"  --{'[no]' if flags[name].boolean else ''}{name}: " in ended.out


@pytest.mark.parametrize("command", CLASSES)
def test_every_flag_of_every_command_shows_its_default(command):
    values = make_flags(*CLASSES[command])
    assert {name for name in values if "Default: " not in values[name].help} == set()


@pytest.mark.parametrize("command", CLASSES)
def test_a_flag_of_another_tool_is_answered_with_the_one_that_is_meant(command):
    with pytest.raises(ValueError) as error:
        read_given(CLASSES[command], ["--batch_size=3"], command=f"tfdist.{command}", usage="")
    known = make_flags(*CLASSES[command])
    meant = next((name for name in ("global_batch", "replica_batch") if name in known), None)
    assert (f"Did you mean --{meant}?" in str(error.value)) == (meant is not None)
    assert str(error.value).endswith(f"See python -m tfdist.{command} --help.")
