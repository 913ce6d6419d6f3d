"""One small source of each kind, with distinguishable rows."""

import numpy as np
import pytest
from support.idx_folders import write_pair
from support.small_files import FEATURES, ROWS, write_images, write_records, write_tfds

from tfdist import data


@pytest.fixture(scope="session")
def record_folder(tmp_path_factory):
    """Returns a folder of three record files with the rows 0..22 in order."""
    folder = tmp_path_factory.mktemp("records")
    for i, numbers in enumerate(np.split(np.arange(ROWS), [4, 15])):
        write_records(folder / f"train-{i:05d}-of-00003", numbers)
    return folder


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory):
    """Returns a folder of images of the classes "ant" and "bee"; row i has the colour 10 i."""
    folder = tmp_path_factory.mktemp("images")
    return write_images(folder)


@pytest.fixture(scope="session")
def idx_folder(tmp_path_factory):
    """Returns a folder of IDX files; row i has the label i % 10."""
    return write_pair(tmp_path_factory.mktemp("idx"), "train", rows=ROWS)


@pytest.fixture(scope="session")
def tfds_folder(tmp_path_factory):
    """Returns a data folder of TFDS with `tiny_set`; row i of "train" has the colour 10 i."""
    return write_tfds(tmp_path_factory.mktemp("tfds"))


@pytest.fixture
def make(record_folder, image_folder, idx_folder, tfds_folder):
    """Returns a function (kind, **options) → source of 23 rows in global batches of 5."""

    def make(kind, **options):
        options = {"global_batch": 5, "seed": 3, **options}
        tfds_options = {"data_dir": tfds_folder, **options}
        makers = {
            "arrays": lambda: data.from_arrays(np.arange(ROWS), np.arange(ROWS) * 2, **options),
            "synthetic": lambda: data.load("synthetic", kind="vectors", rows=ROWS, **options),
            "idx": lambda: data.load("idx", data_dir=idx_folder, **options),
            "images": lambda: data.load("images", data_dir=image_folder, image_size=(3, 4), **options),
            "records": lambda: data.load(
                "records",
                data_dir=record_folder,
                features=FEATURES,
                shuffle_buffer=6,
                **options,
            ),
            "records by number": lambda: data.load(
                "records", data_dir=record_folder, features=FEATURES, random_access=True, **options
            ),
            "tfds in memory": lambda: data.load("tiny_set", **tfds_options),
            "tfds as a stream": lambda: data.load("tiny_set", in_memory_bytes=0, **tfds_options),
        }
        return makers[kind]()

    return make
