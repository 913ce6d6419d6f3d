"""Callbacks that print the numbers of a run."""

import numpy as np
import pytest

from tfdist.callbacks.screen import EpochLines, ProgressLines, format_logs


@pytest.mark.parametrize(
    ("logs", "line"),
    [
        ({}, "epoch 2/10"),
        ({"loss": 0.12345}, "epoch 2/10  loss 0.1235"),
        (
            {
                "examples_per_second": 8123.4,
                "accuracy": 0.95119,
                "val_accuracy": 0.9,
                "val_loss": 0.5,
                "loss": 0.1234,
            },
            "epoch 2/10  loss 0.1234  accuracy 0.9512  val_loss 0.5  val_accuracy 0.9  8123 examples/s",
        ),
        (
            {"loss": 3.0, "head_b_loss": 2.0, "head_a_loss": 1.0, "top5": 1e-7},
            "epoch 2/10  head_a_loss 1  head_b_loss 2  loss 3  top5 1e-07",
        ),
        ({"loss": float("nan")}, "epoch 2/10  loss nan"),
        ({"examples_per_second": 0.0}, "epoch 2/10  0 examples/s"),
        ({"f1_score": np.ones(3), "note": "text", "loss": np.float32(0.5)}, "epoch 2/10  loss 0.5"),
    ],
)
def test_a_line_gives_losses_first_then_metrics_then_those_of_the_validation(logs, line):
    assert format_logs(["epoch 2/10"], logs) == line


def test_lines_are_printed_with_epochs_counted_from_1(capsys):
    lines = EpochLines()
    lines.set_params({"epochs": 3})
    lines.on_epoch_end(0, {"loss": 1.5})
    lines.on_epoch_end(2)
    assert capsys.readouterr().out == "epoch 1/3  loss 1.5\nepoch 3/3\n"


@pytest.fixture
def now():
    """The time, in seconds; set it through its only element."""
    return [0.0]


def play(lines, now, seconds_of_calls, *, steps_a_call=1, before=0, steps=None, epoch=0):
    """Plays an epoch of calls, each of which takes so many seconds."""
    lines.set_params({"epochs": 4, "steps": steps})
    lines.steps_before = before
    lines.on_epoch_begin(epoch)
    for number, seconds in enumerate(seconds_of_calls, 1):
        now[0] += seconds
        lines.on_train_batch_end(number * steps_a_call - 1, {"loss": 1 / number, "matrix": [1, 2]})


def test_a_line_is_printed_when_ten_seconds_have_passed_since_the_last_one(now, capsys):
    lines = ProgressLines(more=lambda: {"examples_per_second": 12.0}, clock=lambda: now[0])
    play(lines, now, [4, 4, 4, 4, 9, 1], steps=8)
    assert capsys.readouterr().out.splitlines() == [
        "epoch 1/4  step 3/8  loss 0.3333  12 examples/s",
        "epoch 1/4  step 5/8  loss 0.2  12 examples/s",
    ]


def test_the_clock_begins_anew_with_each_epoch_and_the_last_step_has_the_epochs_own_line(now, capsys):
    lines = ProgressLines(clock=lambda: now[0])
    play(lines, now, [9], steps=2)
    play(lines, now, [9, 9], before=2, steps=2, epoch=1)
    assert capsys.readouterr().out == ""


def test_a_line_is_printed_each_few_steps_of_the_run(now, capsys):
    lines = ProgressLines(None, every_steps=10, clock=lambda: now[0])
    assert lines.every_steps == 10
    play(lines, now, [60] * 4, steps_a_call=2, before=24, epoch=2)
    assert capsys.readouterr().out.splitlines() == [
        "epoch 3/4  step 6  loss 0.3333",
    ]
