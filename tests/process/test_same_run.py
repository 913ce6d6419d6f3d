"""promise_19: what differs between workers, and between an earlier start of a run and this one, is named."""

import pytest

from tfdist.process.same_run import Changed, changes, differences, narrowed

EQUAL = {"versions": {"keras": "3.13.0"}, "code": {"tfdist": "ab"}, "config": {"steps": None}, "devices": 2}


def changed(**changes):
    return {**EQUAL, **changes}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (changed(devices=1), "devices: 2 on worker 0, 1 on worker 1"),
        (changed(versions={"keras": "3.15.1"}), 'versions.keras: "3.13.0" on worker 0, "3.15.1" on worker 1'),
        (changed(code={"tfdist": "ab", "a.py": "1"}), 'code.a.py: nothing on worker 0, "1" on worker 1'),
        (changed(config={"steps": {"a": [1, None]}}), "config.steps: null on worker 0, nothing on worker 1"),
        (changed(config={}), "config.steps: null on worker 0, nothing on worker 1"),
    ],
)
def test_promise_19_a_difference_is_named_with_worker_key_and_both_values(other, message):
    assert differences([EQUAL, other])[0] == message


def test_promise_19_nested_dicts_are_named_by_their_path():
    hellos = [{"config": {"global_batch": value}} for value in (64, 128)]
    assert differences(hellos) == ["config.global_batch: 64 on worker 0, 128 on worker 1"]


def test_promise_19_workers_that_agree_are_grouped():
    hellos = [{"a": value} for value in (1, 1, 2, 1, 1, 1, 1, 1)]
    assert differences(hellos) == ["a: 1 on workers 0, 1, 3, 4, 5 and 2 more, 2 on worker 2"]


def test_equal_hellos_have_no_difference():
    assert differences([EQUAL, dict(reversed(EQUAL.items())), EQUAL]) == []
    assert differences([EQUAL]) == []


def test_every_difference_is_found_and_long_values_are_cut():
    found = differences([{"a": "x" * 200, "b": 1}, {"a": "x" * 200 + "y", "b": 2}])
    assert [text.split(":")[0] for text in found] == ["a", "b"]
    assert len(found[0]) < 250


def test_changes_are_those_of_the_compared_names_that_both_have():
    there, here = {"seed": 0, "loss": "a", "old": 1}, {"loss": "b", "seed": 9, "new": 2}
    assert changes(there, here) == [("loss", "a", "b"), ("seed", 0, 9)]
    assert changes(there, here, ["seed", "old", "new"]) == [("seed", 0, 9)]
    assert changes(there, there) == []


def test_every_nested_difference_is_named_and_of_two_classes_only_the_class():
    there = {"units": 4, "norm": {"class": "A", "rate": 1}, "old": 0}
    here = {"units": 5, "norm": {"class": "A", "rate": 2}}
    assert list(narrowed(Changed("layer", there, here))) == [
        ("layer.units", 4, 5),
        ("layer.norm.rate", 1, 2),
        ("layer.old", 0, "nothing"),
    ]
    here["norm"] = {"class": "B", "decay": 2}
    assert list(narrowed(Changed("norm", there["norm"], here["norm"]))) == [("norm.class", "A", "B")]
