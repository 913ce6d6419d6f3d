"""IDX files, against NumPy and TFDS' way to cut splits; each damage has its message."""

import gzip

import numpy as np
import pytest
from support.idx_folders import CODES, idx_bytes, write_pair

from tfdist.data.sources import idx_files

IMAGES = "train-images-idx3-ubyte"


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4), (2, 3, 2, 3)])
def test_each_type_and_shape_is_read_plain_and_zipped(kind, shape, tmp_path):
    array = np.random.default_rng(0).integers(-100, 100, shape).astype(kind)
    for name, content in (("plain", idx_bytes(array)), ("zipped", gzip.compress(idx_bytes(array)))):
        (tmp_path / name).write_bytes(content)
        found = idx_files.read(str(tmp_path / name))
        np.testing.assert_array_equal(found, array)
        assert found.dtype.str[1:] == kind


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Hello, I am text", r"train-images-idx3-ubyte: not an IDX file, because it begins with b'Hell' instead of"),
        (b"", r"not an IDX file, because it begins with b''"),
        (b"\0\0\x08\0", "not an IDX file"),
        (
            b"\0\0\x0a\1\0\0\0\1a",
            r"its type is 0x0a, but IDX has 0x08, 0x09, 0x0b, 0x0c, 0x0d, 0x0e\. Download it again",
        ),
        (b"\0\0\x08\3\0\0\0\1", r"cut off within its header of 16 bytes\. Download it again"),
        (
            b"\0\0\x08\1\0\0\0\4abc",
            r"its header says 4 values, which are 4 bytes, but 3 bytes follow\. Download it again",
        ),
        (b"\0\0\x0b\2\0\0\0\2\0\0\0\1abcde", r"says 2 x 1 values, which are 4 bytes, but 5 bytes follow"),
        (gzip.compress(b"\0\0\x08\1\0\0\0\4abcd", mtime=0)[:-9], r"broken GZIP file \(.*\)\. Download it again"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(content, message, tmp_path):
    path = tmp_path / IMAGES
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        idx_files.read(str(path))
    assert str(error.value).startswith(str(path))


def test_other_numbers_of_images_and_labels_are_refused(tmp_path):
    write_pair(tmp_path, "train", rows=5)
    labels = tmp_path / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(idx_bytes(np.zeros(4, np.uint8)))
    _, pair = idx_files.find_pair(tmp_path, "train")
    with pytest.raises(ValueError, match=r"it has 5 images, but .*train-labels.* has 4 labels\. Use two files that"):
        idx_files.read_pair(pair)


@pytest.mark.parametrize(
    "name", [IMAGES, f"{IMAGES}.gz", "train-images.idx3-ubyte", "emnist-letters-train-images-idx3-ubyte.gz"]
)
def test_the_names_in_use_are_found(name, tmp_path):
    for file in (name, name.replace("images", "labels").replace("idx3", "idx1")):
        (tmp_path / file).touch()
    part, pair = idx_files.find_pair(tmp_path, "train")
    assert part == ("emnist-letters" if "letters" in name else "")
    assert pair.images == str(tmp_path / name)
    assert "labels" in pair.labels


def test_of_a_plain_and_a_zipped_file_the_plain_one_is_taken(tmp_path):
    write_pair(tmp_path, "t10k", rows=2)
    write_pair(tmp_path, "t10k", rows=3, zipped=False)
    assert [len(part) for part in idx_files.read_pair(idx_files.find_pair(tmp_path, "test")[1])] == [3, 3]


def test_parts_are_chosen_by_their_names_or_how_these_end(tmp_path):
    for part in ("emnist-letters-", "emnist-digits-"):
        write_pair(tmp_path, "test", rows=2, part=part)
    for part in ("letters", "emnist-letters"):
        assert idx_files.find_pair(tmp_path, "test", part)[0] == "emnist-letters"
    with pytest.raises(ValueError, match=r"has the parts \['emnist-digits', 'emnist-letters'\]\. Give one of them"):
        idx_files.find_pair(tmp_path, "test")
    with pytest.raises(
        FileNotFoundError, match=r"part is 'balanced', but .* has \['emnist-digits', 'emnist-letters'\]"
    ):
        idx_files.find_pair(tmp_path, "test", "balanced")


def test_files_that_are_not_there_are_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"has no IDX files\. Give the folder of files such as train-images-idx3"
    ):
        idx_files.find_pair(tmp_path, "train")
    write_pair(tmp_path, "train", rows=2)
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file train-labels-idx…, only train-images-idx3-ubyte\.gz\. Compl"):
        idx_files.find_pair(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match="no file test-images or test-labels-idx…"):
        idx_files.find_pair(tmp_path, "test")


@pytest.mark.parametrize("part", ["", "[:80%]", "[17%:]", "[3:5]", "[:-4]", "[-20%:]", "[5:]", "[:10]"])
def test_a_part_of_a_split_is_that_of_tfds(part):
    import tensorflow_datasets as tfds

    for rows in (10, 23):
        split = tfds.core.SplitInfo(name="train", shard_lengths=[rows], num_bytes=0)
        instruction = tfds.core.ReadInstruction.from_spec(f"train{part}")
        (expected,) = instruction.to_absolute({"train": split})
        chosen = range(rows)[idx_files.rows_of(f"train{part}", rows)]
        assert chosen == range(rows)[expected.from_ : expected.to], (part, rows)


@pytest.mark.parametrize("part", ["[:11]", "[-11:]", "[150%:]"])
def test_a_part_beyond_the_rows_is_refused(part):
    with pytest.raises(ValueError, match=r"but there are 10 rows\. Use places in 0\.\.10"):
        idx_files.rows_of(f"train{part}", 10)


@pytest.mark.parametrize("split", ["val", "train[", "train[a:]", "train[:5:2]", "t10k"])
def test_a_split_that_cannot_be_is_refused(split):
    with pytest.raises(ValueError, match=r"idx: split is '.*'\. Use 'train' or 'test', or a part of it as in"):
        idx_files.parse_split(split)
