"""promise_19: the fingerprint that must be the same on every worker."""

import hashlib
import sys

from tfdist.cluster import fingerprint
from tfdist.cluster.fingerprint import hash_files, hash_package
from tfdist.options.run import RunConfig
from tfdist.process.same_run import differences
from tfdist.process.versions import read_versions


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
    assert differences(hellos) == []


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
