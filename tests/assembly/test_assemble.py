"""What the options name is what assembly makes."""

import keras
import pytest

from tfdist.assembly import assemble
from tfdist.options.run import OPTIMIZERS
from tfdist.run.rundir import RunDir


def test_the_optimizers_that_the_options_name_are_those_that_are_made():
    assert set(assemble._OPTIMIZERS) == set(OPTIMIZERS)


@pytest.mark.parametrize(
    ("more", "seconds", "line"),
    [
        (
            {"examples_seen": 40, "examples_per_second": 12.3},
            7.4,
            "test loss 0.5  (4 steps, 40 examples, 12/s, 1 replica, 7 s in all)",
        ),
        ({}, None, "test loss 0.5  (4 steps, 1 replica)"),
    ],
)
def test_the_last_lines_have_what_the_summary_knows(tmp_path, more, seconds, line):
    summary = {"metrics": {"loss": 0.5}, "steps": 4, "replicas": 1, **more}
    assert assemble.last_lines(RunDir(tmp_path), summary, "5 ms a step", seconds).splitlines() == [
        "5 ms a step",
        line,
        str(tmp_path),
    ]


def test_a_run_is_announced_by_its_folder_model_optimizer_and_devices(make_strategy, tmp_path):
    def announced(optimizer):
        with make_strategy(2).scope():
            model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(400, trainable=False)], name="a_model")
            model.compile(optimizer())
        return assemble.describe_start(RunDir(tmp_path), model)

    first = f"run_dir {tmp_path}: model a_model, 1,600 parameters, 0 of them trained; "
    assert announced(lambda: keras.optimizers.SGD(0.1)) == (
        f"{first}SGD with a learning rate of 0.1; 2 replicas of MirroredStrategy."
    )
    cosine = keras.optimizers.schedules.CosineDecay
    assert announced(lambda: keras.optimizers.Adam(cosine(0.2, 9))) == (
        f"{first}Adam with a learning rate of 0.2 at first, then by CosineDecay; 2 replicas of MirroredStrategy."
    )
