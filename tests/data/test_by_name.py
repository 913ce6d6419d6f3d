"""Data sets by name: the checks, which load no TensorFlow."""

import subprocess
import sys

import pytest
from support.idx_folders import write_pair

from tfdist import data
from tfdist.data.sources import idx_files


def test_load_passes_the_order_and_the_transform_on():
    source = data.load("digits", split="test", global_batch=7, seed=4, drop_remainder=True, transform=len)
    assert (source.name, source.rows, source.classes) == ("digits/test", 359, 10)
    assert (source.plan.seed, source.plan.shuffle, source.cardinality) == (4, False, 51)
    assert source.transform is len
    assert data.load("digits").plan.shuffle
    assert not data.load("digits", shuffle=False).plan.shuffle
    assert data.load("digits", split="test", shuffle=True).plan.shuffle


def test_an_option_that_the_kind_does_not_have_is_refused_by_name():
    with pytest.raises(ValueError, match=r"digits: there is no option image_size, rows\."):
        data.load("digits", rows=3, image_size=(4, 4))
    with pytest.raises(ValueError, match="there are: classes, kind, pool, rows, shape"):
        data.load("synthetic", shapes=(3,))


def test_the_names_that_come_with_tfdist_pass():
    assert data.names() == ("digits", "idx", "images", "records", "synthetic")
    for name in ("digits", "synthetic", "records"):
        data.check_name(name)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("digits", {"data_dir": "/tmp"}, "data_dir is '/tmp', but digits needs none"),
        ("digits", {"download": True}, "download is for TFDS names. Leave it out"),
        ("images", {}, r"there is no data_dir\. Give the folder of images \(--data_dir\)"),
        ("idx", {}, r"there is no data_dir\. Give the folder of IDX files \(--data_dir\)"),
        ("digitz", {}, "Did you mean 'digits'"),
        ("no such name", {}, "the name is 'no such name'. Use name, name/config or name:1"),
        ("mnizt", {"download": True}, "mnizt: neither TFDS nor the folder .* has this data set"),
        ("mnist:1.0.0", {}, r"mnist cannot be loaded at version 1\.0\.0"),
        ("imagenet2012/nothing", {}, "BuilderConfig nothing not found"),
    ],
)
def test_a_name_that_cannot_be_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        data.check_name(name, **options)


@pytest.mark.parametrize("name", ["idx", "images", "records", "mnist"])
def test_a_folder_that_does_not_exist_is_refused(name):
    with pytest.raises(FileNotFoundError, match=rf"{name}: data_dir is '/nowhere': no such folder"):
        data.check_name(name, data_dir="/nowhere")


def test_a_tfds_name_without_tensorflow_datasets_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match="pip install tensorflow-datasets importlib_resources"):
        data.check_name("mnist")


def test_a_published_set_is_found_as_idx_files_or_else_asked_of_tfds(tmp_path, monkeypatch):
    monkeypatch.setattr(idx_files, "SYSTEM", str(tmp_path / "system"))
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(
        ImportError, match=r"no IDX files of it in '.*/system' either\. .*: apt install dataset-fashion"
    ):
        data.check_name("fashion_mnist")
    write_pair(tmp_path / "system" / "fashion-mnist", "t10k", rows=6)
    data.check_name("fashion_mnist")
    source = data.load("fashion_mnist", split="test", global_batch=4)
    assert (source.name, source.rows, source.classes) == ("fashion_mnist/test", 6, 10)
    assert source.class_names[:2] == ("T-shirt/top", "Trouser")
    with pytest.raises(ImportError, match=r"no IDX files of it in .*/elsewhere"):
        (tmp_path / "elsewhere").mkdir()
        data.check_name("fashion_mnist", data_dir=tmp_path / "elsewhere")
    with pytest.raises(ImportError, match="TFDS names need"):
        # Of a version, TFDS is asked.
        data.check_name("fashion_mnist:3.0.1")
    with pytest.raises(ValueError, match=r"fashion_mnist: there is no option part\. .*there are: transpose\."):
        data.load("fashion_mnist", part="letters")


def test_a_given_folder_is_the_only_one_searched_and_may_have_a_sub_folder_of_the_name(tmp_path):
    write_pair(tmp_path / "fashion-mnist", "train", rows=5)
    for folder in (tmp_path, tmp_path / "fashion-mnist"):
        assert data.load("fashion_mnist", data_dir=folder).rows == 5
    with pytest.raises(FileNotFoundError, match=r"mnist: not found in .* There are no IDX files of it in .* either"):
        data.load("mnist", data_dir=tmp_path)
    write_pair(tmp_path, "train", rows=3, part="emnist-letters-")
    source = data.load("emnist/letters", data_dir=tmp_path)
    assert (source.rows, source.classes, source.class_names[1]) == (3, 27, "A")
    with pytest.raises(FileNotFoundError, match="emnist/digits: not found"):
        data.load("emnist/digits", data_dir=tmp_path)


def test_an_unknown_attribute_is_refused_with_the_public_names():
    with pytest.raises(AttributeError, match=r"no attribute 'lode'\. Did you mean 'load'\? Public names: .*load"):
        _ = data.lode
    assert set(data.__all__) <= set(dir(data))
    for name in data.__all__:
        assert getattr(data, name) is not None


PROGRAM = """
import sys
from tfdist import data
from tfdist.data import report
data.check_name("digits")
data.check_name("tiny_set", data_dir="{tfds}")
data.check_name("fashion_mnist", data_dir="{idx}")
try:
    data.check_name("mnist", data_dir="{tfds}")
except FileNotFoundError:
    pass
assert "tensorflow" not in sys.modules, "a name is checked without TensorFlow"

import tensorflow as tf
sources = [
    data.load("digits"),
    data.load("synthetic", pool=4),
    data.load("images", data_dir="{images}"),
    data.load("records", data_dir="{records}"),
    data.load("fashion_mnist", data_dir="{idx}"),
    data.load("tiny_set", data_dir="{tfds}"),
    data.load("tiny_set", data_dir="{tfds}", in_memory_bytes=0),
]
# Refused as soon as TensorFlow has set up its devices.
cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
"""


def test_names_are_checked_without_tensorflow_and_sources_made_before_its_devices(
    tfds_folder, image_folder, record_folder, tmp_path
):
    write_pair(tmp_path, "train", rows=5)
    program = PROGRAM.format(tfds=tfds_folder, images=image_folder, records=record_folder, idx=tmp_path)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
