"""Callbacks that write the numbers of an epoch."""

import json

import pytest

from tfdist.callbacks.writers import EpochLines, MetricsFile, format_epoch


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
    ],
)
def test_a_line_gives_losses_first_then_metrics_then_those_of_the_validation(logs, line):
    assert format_epoch(2, 10, logs) == line


def test_lines_are_printed_with_epochs_counted_from_1(capsys):
    lines = EpochLines()
    lines.set_params({"epochs": 3})
    lines.on_epoch_end(0, {"loss": 1.5})
    lines.on_epoch_end(2)
    assert capsys.readouterr().out == "epoch 1/3  loss 1.5\nepoch 3/3\n"


def test_a_file_gets_one_object_an_epoch_and_keeps_those_of_an_earlier_run(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    MetricsFile(path).on_epoch_end(0, {"loss": 1.5})
    again = MetricsFile(path)
    again.on_epoch_end(1, {"loss": 0.5, "val_loss": 0.75})
    again.on_epoch_end(2)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"epoch": 1, "loss": 1.5},
        {"epoch": 2, "loss": 0.5, "val_loss": 0.75},
        {"epoch": 3},
    ]


def test_a_line_in_the_file_may_have_more_than_the_logs(tmp_path):
    path = tmp_path / "metrics.jsonl"
    MetricsFile(path, lambda: {"workers": [{"worker": 0}]}).on_epoch_end(0, {"loss": 1.5})
    assert json.loads(path.read_text()) == {"epoch": 1, "loss": 1.5, "workers": [{"worker": 0}]}
