"""What is said of flags that another tool, or another command, has."""

import pytest

from tfdist.__main__ import COMMANDS
from tfdist.bench.config import BenchConfig
from tfdist.doctor.config import DoctorConfig
from tfdist.jobs.config import JobConfig
from tfdist.launch.config import LaunchConfig
from tfdist.options import neighbours
from tfdist.options.fields import flags_of
from tfdist.options.run import STRATEGIES
from tfdist.report.config import ReportConfig
from tfdist.train.flags import OPTIONS
from tfdist.verify.config import VerifyConfig


def names(*kinds):
    return {flag.name for kind in kinds for flag in flags_of(kind)}


KINDS = {
    "tfdist.train": OPTIONS,
    "tfdist.launch": (LaunchConfig,),
    "tfdist.doctor": (DoctorConfig,),
    "tfdist.verify": (VerifyConfig,),
    "tfdist.bench": (BenchConfig,),
    "tfdist.report": (ReportConfig,),
    "tfdist.jobs": (JobConfig,),
}


def test_the_flags_of_each_command_are_those_of_the_table():
    # Arguments of the models are names.
    assert neighbours.FLAGS.keys() == {f"tfdist.{name}" for name in COMMANDS} - {"tfdist.models"}
    assert {command: set(flags) for command, flags in neighbours.FLAGS.items()} == {
        command: names(*kinds) for command, kinds in KINDS.items()
    }


def test_every_name_of_another_tool_leads_to_a_flag_that_exists():
    known = {flag for flags in neighbours.FLAGS.values() for flag in flags}
    assert {flag for flags in neighbours._NAMES.values() for flag in flags} <= known


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("gpu", " Did you mean 'mirrored'?"),
        ("GPUs", " Did you mean 'mirrored'?"),
        ("cpu", " Did you mean 'one_device'?"),
        ("miror", " Did you mean 'mirrored'?"),
        ("horovod", ""),
        (3, ""),
    ],
)
def test_what_a_strategy_is_called_elsewhere_is_known(word, hint):
    assert neighbours.suggest_choice(word, STRATEGIES) == hint
    message = f"flag --strategy={word}: value should be one of <{'|'.join(STRATEGIES)}>"
    assert neighbours.suggest_value(message) == hint
    # No hint is given that the flag would refuse.
    assert neighbours.suggest_choice("gpu", ("float32", "bfloat16")) == ""


@pytest.mark.parametrize(
    ("name", "command", "known", "advice"),
    [
        ("batch_size", "tfdist.train", {"global_batch"}, " Did you mean --global_batch?"),
        ("batch_size", "tfdist.bench", {"replica_batch"}, " Did you mean --replica_batch?"),
        ("Batch-Size", "tfdist.train", {"global_batch"}, " Did you mean --global_batch?"),
        (
            "nproc_per_node",
            "tfdist.train",
            {"epochs"},
            " --workers is a flag of tfdist.launch: python -m tfdist.launch --workers=… -- -m tfdist.train …",
        ),
        (
            "lr",
            "tfdist.launch",
            {"workers"},
            " --learning_rate is a flag of tfdist.train. Put it after ` -- `: … -- -m tfdist.train --learning_rate=…",
        ),
        ("epochs", "tfdist.doctor", {"dataset"}, " --epochs is a flag of tfdist.train."),
        ("batch_size", "tfdist.verify", {"steps"}, " --global_batch is a flag of tfdist.train and of tfdist.doctor."),
        ("rounds", "tfdist.launch", {"workers"}, " --rounds is a flag of tfdist.bench."),
        ("nonsense", "tfdist.train", {"epochs"}, ""),
    ],
)
def test_a_flag_of_a_neighbour_is_told(name, command, known, advice):
    assert neighbours.advise(name, command, known) == advice
