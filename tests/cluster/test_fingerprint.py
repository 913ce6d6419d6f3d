"""promise_19: the fingerprint that must be the same on every worker, and the message where it is not."""

import hashlib
import sys

import pytest

from tfdist.cluster import fingerprint
from tfdist.cluster.fingerprint import differences, first_difference, hash_files, hash_package
from tfdist.options.run import RunConfig
from tfdist.process.versions import read_versions

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
    assert first_difference([EQUAL, other]) == message


def test_promise_19_nested_dicts_are_named_by_their_path():
    hellos = [{"config": {"global_batch": value}} for value in (64, 128)]
    assert first_difference(hellos) == "config.global_batch: 64 on worker 0, 128 on worker 1"


def test_promise_19_workers_that_agree_are_grouped():
    hellos = [{"a": value} for value in (1, 1, 2, 1, 1, 1, 1, 1)]
    assert first_difference(hellos) == "a: 1 on workers 0, 1, 3, 4, 5 and 2 more, 2 on worker 2"


def test_equal_hellos_have_no_difference():
    assert first_difference([EQUAL, dict(reversed(EQUAL.items())), EQUAL]) is None
    assert first_difference([EQUAL]) is None


def test_every_difference_is_found_and_long_values_are_cut():
    found = differences([{"a": "x" * 200, "b": 1}, {"a": "x" * 200 + "y", "b": 2}])
    assert [text.split(":")[0] for text in found] == ["a", "b"]
    assert len(found[0]) < 250


def test_a_fingerprint_has_versions_without_importing(tmp_path):
    script = tmp_path / "mine.py"
    script.write_text("pass")
    config = RunConfig(data_dir="/here", dataset="images").to_dict()
    hello = fingerprint.fingerprint(config, [script], {"CUDA_VISIBLE_DEVICES": ""})
    assert list(hello) == ["versions", "code", "config", "devices"]
    assert hello["versions"] == read_versions()
    assert hello["code"]["mine.py"] == hashlib.sha256(b"pass").hexdigest()[:16]
    assert hello["config"]["global_batch"] == 32
    assert hello["devices"] == 0


def test_the_folder_of_the_data_may_differ_between_workers():
    hellos = [fingerprint.fingerprint({"data_dir": folder, "seed": 0}, environ={}) for folder in "ab"]
    assert first_difference(hellos) is None


def test_the_digest_of_a_package_sees_names_and_contents_of_its_python_files(tmp_path):
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "b").mkdir()
    digests = [hash_package(tmp_path)]
    for name, content in (("b/c.py", "2"), ("b/c.py", "3"), ("b/d.py", "3")):
        (tmp_path / name).write_text(content)
        digests.append(hash_package(tmp_path))
    assert len(set(digests)) == 4
    (tmp_path / "notes.txt").write_text("no code")
    assert hash_package(tmp_path) == digests[-1]


def test_files_are_known_by_their_names_in_any_folder(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.py").write_text("1")
    first, second = (hash_files([tmp_path / folder / "train.py"]) for folder in "ab")
    assert first == second
    assert len(hash_files([tmp_path / "a" / "train.py", tmp_path / "b" / "train.py"])) == 2


def test_tensorflow_stays_unimported_here():
    # The tests above have used all of the module.
    assert fingerprint.__name__ in sys.modules
    assert "tensorflow" not in vars(fingerprint)
