"""Planted results of trials: each red and yellow line, and the form of lines."""

import json

import pytest

from tfdist.doctor import trials
from tfdist.doctor.lines import Line, fail_with, is_well, render, to_json

REDUCED = {"replicas": 2, "bytes": 2**24, "seconds": 0.02, "wrong_by": 0.0}
READ = {"lines": ["a: 90 rows, 9 steps of 10.", "worker 0: 45 rows.", "worker 1: 45 rows."], "files": 0}


@pytest.mark.parametrize(
    ("answer", "level", "text"),
    [
        (REDUCED, "ok", "16 MiB over 2 replicas in 20 ms, 0.84 GB/s; the sums are right"),
        (REDUCED | {"seconds": 0.5}, "warn", "16 MiB over 2 replicas in 500 ms, 0.03 GB/s; the sums are right"),
        (REDUCED | {"wrong_by": 3.0}, "FAIL", "the sum over 2 replicas is wrong by 3"),
        ({"error": "no answer within 60 s", "deadline": True}, "FAIL", "no answer within 60 s"),
        ({"error": "UnavailableError: peer\nmore"}, "FAIL", "UnavailableError: peer"),
    ],
)
def test_an_all_reduce_that_fails_or_errs_is_red_and_a_slow_one_yellow(answer, level, text):
    line = trials.check_all_reduce(answer)
    assert (line.level, line.text) == (level, text)
    assert bool(line.cure) == (level != "ok")


def check(answer, *, global_batch=10, replicas=2, workers=2):
    return trials.check_dataset(answer, global_batch=global_batch, replicas=replicas, workers=workers)


def test_what_each_worker_reads_is_told():
    assert [(line.level, line.text) for line in check(READ)] == [("ok", text.rstrip(".")) for text in READ["lines"]]
    many = READ | {"lines": ["a"] + [f"worker {rank}" for rank in range(20)]}
    assert [line.text for line in check(many)][-2:] == ["worker 7", "and 12 more workers"]


def test_promise_26_fewer_files_than_workers_are_yellow():
    *_, line = check(READ | {"files": 3}, workers=4)
    assert (line.level, line.text) == ("warn", "3 files for 4 workers: each worker reads all of them")
    assert all(line.level == "ok" for line in check(READ | {"files": 4}, workers=4))


def test_fewer_rows_in_a_step_than_replicas_are_yellow():
    *_, line = check(READ, global_batch=3, replicas=4)
    assert (line.level, line.cure) == ("warn", "Use --global_batch=4 or more.")


def test_a_data_set_that_does_not_open_is_red():
    (line,) = check({"error": "FileNotFoundError: images: no such folder. Give another."})
    assert line == Line("FAIL", "data", "images: no such folder", "Give another.")
    (line,) = check({"error": "no answer within 60 s", "deadline": True})
    assert line.text == "no answer within 60 s"


def test_checkpoints_are_told_and_damaged_ones_are_red():
    entries = [(10, None, {}), (20, "weights.npz: sha256 differs.", {}), (30, "no manifest", {})]
    lines = trials.checkpoint_lines(entries)
    assert [(line.level, line.text) for line in lines] == [
        ("ok", "step 10 is whole"),
        ("FAIL", "step 20: weights.npz: sha256 differs"),
        ("FAIL", "step 30: no manifest"),
    ]
    assert lines[1].cure == "A run goes on from step 10. Bring the checkpoint back, or remove its folder."


def test_a_run_without_a_whole_checkpoint_is_told():
    (line,) = trials.checkpoint_lines([(10, "torn", {})])
    assert line.cure.startswith("No checkpoint is whole: a run cannot go on from here.")
    (line,) = trials.checkpoint_lines([])
    assert (line.level, line.text) == ("warn", "none: a run in this folder would start from the beginning")


def test_the_word_is_there_with_and_without_colours():
    line = Line("FAIL", "port", "1 is busy", "Take 2.")
    assert render(line) == "FAIL  port          1 is busy\n                    -> Take 2."
    assert render(line, colours=True) == render(line).replace("FAIL", "\033[1;31mFAIL\033[0m", 1)
    assert render(Line("ok", "port", "1 is free")) == "ok    port          1 is free"


def test_an_error_becomes_what_is_wrong_and_what_to_do():
    line = fail_with("x", ValueError("rendezvous: 1 of 2 (a.b:1) missing. Start it. Look."))
    assert line == Line("FAIL", "x", "1 of 2 (a.b:1) missing", "Start it. Look.")


def test_lines_are_told_as_json():
    lines = [Line("ok", "a", "b"), Line("warn", "c", "d", "e")]
    assert is_well(lines)
    told = json.loads(to_json([*lines, Line("FAIL", "f", "g")]))
    assert told["ok"] is False
    assert told["lines"][1] == {"level": "warn", "name": "c", "text": "d", "cure": "e"}
