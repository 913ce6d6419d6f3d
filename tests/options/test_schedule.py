"""The options of a schedule: what cannot be is refused, what has no effect is told."""

import pytest

from tfdist.options.run import RunConfig, identity
from tfdist.options.schedule import SCHEDULES, ScheduleOptions


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "cosin"}, "schedule is 'cosin'. Use one of constant, cosine, step. Did you mean 'cosine'?"),
        ({"warmup_epochs": -1}, "warmup_epochs is -1. Use a number from 0."),
        ({"step_epochs": ()}, "step_epochs is (). Use numbers above 0 in ascending order, each once."),
        ({"step_epochs": (60, 30)}, "step_epochs is (60, 30). Use numbers above 0 in ascending order, each once."),
        ({"step_epochs": (0, 30)}, "step_epochs is (0, 30). Use numbers above 0 in ascending order, each once."),
        ({"step_epochs": (30, 30)}, "step_epochs is (30, 30). Use numbers above 0 in ascending order, each once."),
        ({"step_epochs": 30}, "step_epochs is 30. Use a tuple of numbers."),
        ({"step_factor": -0.1}, "step_factor is -0.1. Use a number from 0."),
        ({"final_rate": -1}, "final_rate is -1. Use a number from 0."),
    ],
)
def test_a_wrong_value_is_refused_by_flag_and_value(fields, message):
    with pytest.raises(ValueError) as error:
        ScheduleOptions(**fields)
    assert str(error.value) == message


def test_the_listed_names_are_all_taken():
    assert [ScheduleOptions(kind=kind).kind for kind in SCHEDULES] == [*SCHEDULES]


@pytest.mark.parametrize(
    ("fields", "epochs", "lines"),
    [
        ({}, 20, []),
        ({"kind": "step", "step_epochs": (10,), "step_factor": 0.5}, 20, []),
        ({"kind": "cosine", "final_rate": 0.01, "warmup_epochs": 5}, 20, []),
        (
            {"step_factor": 0.5, "final_rate": 1e-3},
            20,
            [
                "step_factor is 0.5, but it has no effect with schedule 'constant'. Use schedule 'step', or leave it "
                "out.",
                "final_rate is 0.001, but it has no effect with schedule 'constant'. Use schedule 'cosine', or leave "
                "it out.",
            ],
        ),
        (
            {"kind": "step", "warmup_epochs": 30},
            20,
            [
                "warmup_epochs is 30, but the run has 20 epochs, so the learning rate never reaches its value. Use a "
                "shorter warm-up, or a longer run.",
                "schedule is 'step', but the run has 20 epochs, and the learning rate falls first at epoch 30. Give "
                "step_epochs within the run, or a longer run.",
            ],
        ),
        (
            {"warmup_epochs": 1},
            3 / 45,
            [
                "warmup_epochs is 1, but the run has 0.0667 epochs, so the learning rate never reaches its value. Use "
                "a shorter warm-up, or a longer run.",
            ],
        ),
        (
            {"kind": "step", "step_epochs": (2,)},
            1,
            [
                "schedule is 'step', but the run has 1 epoch, and the learning rate falls first at epoch 2. Give "
                "step_epochs within the run, or a longer run.",
            ],
        ),
    ],
)
def test_what_changes_nothing_is_told(fields, epochs, lines):
    assert ScheduleOptions(**fields).without_effect(epochs) == lines


def test_a_flag_changes_one_field_of_the_schedule_and_a_whole_one_takes_its_place():
    steps = RunConfig(schedule=ScheduleOptions(kind="step", step_epochs=(3,), warmup_epochs=1))
    changed = steps.replace(schedule="cosine", warmup_epochs=2)
    assert changed.schedule == ScheduleOptions(kind="cosine", step_epochs=(3,), warmup_epochs=2)
    assert steps.replace(schedule=ScheduleOptions()).schedule == ScheduleOptions()
    both = steps.replace(schedule=ScheduleOptions(kind="cosine"), warmup_epochs=4)
    assert both.schedule == ScheduleOptions(kind="cosine", warmup_epochs=4)
    with pytest.raises(ValueError, match=r"schedule is 'sine'\. Use one of constant, cosine, step"):
        steps.replace(schedule="sine")


def test_a_new_optimizer_has_a_schedule_of_its_own():
    warm = RunConfig(schedule=ScheduleOptions(kind="step", warmup_epochs=1))
    assert warm.replace(optimizer="lars").schedule == ScheduleOptions()
    new = warm.replace(optimizer="lars", learning_rate=0.1, schedule="cosine")
    assert new.schedule == ScheduleOptions(kind="cosine")


def test_the_length_identifies_a_run_only_where_the_rate_follows_it():
    def differs(one, other):
        return identity(one.to_dict()) != identity(other.to_dict())

    cosine = RunConfig(schedule=ScheduleOptions(kind="cosine"))
    assert differs(cosine, cosine.replace(epochs=21))
    assert differs(cosine, cosine.replace(steps=20))
    assert not differs(cosine, cosine.replace(epochs=20))
    assert not differs(RunConfig(), RunConfig(epochs=21))
    assert differs(RunConfig(), RunConfig(schedule=ScheduleOptions(kind="step")))
    assert identity(cosine.to_dict())["length"] == "20 epochs"
    assert identity(cosine.replace(steps=7).to_dict())["length"] == "7 steps"
