"""TFDS data sets from a folder made here, without a network."""

import time

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from support.tfds_folders import write_cifar10, write_imagenet, write_pets

from tfdist import data
from tfdist.data import augment
from tfdist.data.delivery.delivery import Places
from tfdist.data.sources import tfds_catalog

pytestmark = pytest.mark.slow


def read(source):
    return next(source.dataset().as_numpy_iterator())


def load(folder, **options):
    options = {"shuffle": False, "global_batch": 100, **options}
    return data.load(options.pop("name", "tiny_set"), data_dir=folder, **options)


def assert_same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_rows_are_the_supervised_pair_with_images_in_0_to_1(tfds_folder):
    source = load(tfds_folder)
    images, labels = read(source)
    # TFDS stores rows in an order of its own, by the hashes of their keys.
    colours = np.rint(images[:, 0, 0, 0] * 255).astype(int)
    assert sorted(colours) == list(range(0, 230, 10))
    expected = np.broadcast_to(colours[:, None, None, None] / 255, images.shape)
    np.testing.assert_allclose(images, expected, rtol=1e-6)
    np.testing.assert_array_equal(labels, colours // 10 % 3)
    assert (source.classes, source.rows, images.dtype) == (3, 23, np.float32)
    assert source.class_names == ("0", "1", "2")


@pytest.mark.parametrize("in_memory_bytes", [0, 2**30])
@pytest.mark.parametrize(
    ("split", "rows"),
    [
        ("train[:80%]", slice(0, 18)),
        ("train[20:]", slice(20, 23)),
        ("test", slice(23, 27)),
        ("train+test", slice(0, 27)),
    ],
)
def test_parts_of_splits_are_read_in_memory_and_as_streams(split, rows, in_memory_bytes, tfds_folder):
    both = zip(read(load(tfds_folder)), read(load(tfds_folder, split="test")), strict=True)
    expected = [np.concatenate(pair)[rows] for pair in both]
    assert_same(read(load(tfds_folder, split=split, in_memory_bytes=in_memory_bytes)), expected)


def test_a_small_split_lies_in_memory_and_a_large_one_is_streamed(tfds_folder):
    assert load(tfds_folder).reader.files == ()
    (path,) = load(tfds_folder, in_memory_bytes=23 * 6 * 8 * 3).reader.files
    assert path.endswith("tiny_set-train.tfrecord-00000-of-00001")


def test_the_folder_of_one_version_is_found_as_well_as_the_one_above(tfds_folder):
    version = tfds_folder / "tiny_set" / "1.0.0"
    above = read(load(tfds_folder))
    for name in ("tiny_set", "tiny_set:1.0.0", "tiny_set:1.*.*"):
        assert_same(read(load(version, name=name)), above)
    for name in ("mnist", "tiny_set:2.0.0", "tiny_set/config"):
        with pytest.raises(ValueError, match=r"holds 'tiny_set/1\.0\.0'\. Use that name"):
            load(version, name=name)


@pytest.mark.parametrize("in_memory_bytes", [0, 2**30])
def test_images_of_several_sizes_need_an_image_size(in_memory_bytes, tfds_folder):
    options = {"keys": ("sketch", "label"), "in_memory_bytes": in_memory_bytes}
    with pytest.raises(ValueError, match=r"sizes of 'sketch' differ: .*\. Give image_size, or encoded=True"):
        load(tfds_folder, **options)
    sketches, labels = read(load(tfds_folder, image_size=(4, 5), **options))
    assert sketches.shape == (23, 4, 5, 1)
    images, expected = read(load(tfds_folder))
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_allclose(sketches[:, 0, 0, 0], images[:, 0, 0, 0], rtol=1e-5)


def test_keys_choose_the_features(tfds_folder):
    batch = read(load(tfds_folder, keys={"a": "label", "b": "label"}))
    np.testing.assert_array_equal(batch["a"], batch["b"])
    assert len(read(load(tfds_folder, keys=["image", "label"]))) == 2
    with pytest.raises(ValueError, match=r"keys has \['name'\]\. Use \['image', 'label', 'sketch"):
        load(tfds_folder, keys=("image", "name"))
    with pytest.raises(ValueError, match=r"image_size is .*, but label has no image"):
        load(tfds_folder, keys="label", image_size=(4, 4))


def test_an_unknown_split_is_refused_with_those_there_are(tfds_folder):
    for split in ("val", "train[:x%]"):
        with pytest.raises(ValueError, match=r"there are \['test', 'train'\]"):
            load(tfds_folder, split=split)


def test_data_that_are_not_there_are_refused_with_the_folder_searched(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        load(tmp_path, name="mnist")
    assert f"mnist: not found in '{tmp_path}/mnist/" in str(error.value)
    assert "--data_dir" in str(error.value)
    assert "download=True (--download)" in str(error.value)


def test_a_download_without_network_is_refused_soon(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_catalog, "HOST", "host.invalid")
    monkeypatch.setattr("urllib.request.getproxies", dict)
    start = time.monotonic()
    with pytest.raises(ConnectionError, match=r"host\.invalid:443 cannot be reached .*--data_dir"):
        load(tmp_path, name="mnist", download=True)
    assert time.monotonic() - start < 10
    assert not (tmp_path / "mnist").exists()


def test_a_host_that_does_not_answer_is_given_up(monkeypatch):
    monkeypatch.setattr("urllib.request.getproxies", dict)

    def hang(*_, **__):
        time.sleep(5)
        raise TimeoutError

    monkeypatch.setattr("socket.create_connection", hang)
    with pytest.raises(ConnectionError, match=r"no answer within 0\.2 s"):
        tfds_catalog.check_connection("host.invalid", timeout_seconds=0.2)


def test_behind_a_proxy_the_proxy_is_asked(monkeypatch):
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "http://proxy.invalid:3128"})
    with pytest.raises(ConnectionError, match=r"proxy\.invalid:3128 cannot be reached"):
        tfds_catalog.check_connection("host.invalid", timeout_seconds=5)


def test_prepared_data_are_not_downloaded(tfds_folder, monkeypatch):
    monkeypatch.setattr(tfds_catalog, "HOST", "host.invalid")
    assert load(tfds_folder, download=True).rows == 23


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Returns a data folder of TFDS with `imagenet2012` and `oxford_iiit_pet`: JPEGs of four sizes, in two shards."""
    folder = tmp_path_factory.mktemp("photographs")
    return write_pets(write_imagenet(folder, rows=23, validation_rows=5), rows=7, test_rows=2)


def stored(folder, name, split):
    """Returns the examples of a split in their order, as TFDS itself reads them, with the bytes of its images."""
    skip = {"image": tfds.decode.SkipDecoding()}
    config = tfds.ReadConfig(interleave_cycle_length=1)
    return list(tfds.load(name, data_dir=folder, split=split, decoders=skip, read_config=config).as_numpy_iterator())


@pytest.mark.parametrize("in_memory_bytes", [0, 2**30])
@pytest.mark.parametrize(
    ("name", "split", "classes"), [("imagenet2012", "train", 1000), ("oxford_iiit_pet", "test", 37)]
)
def test_encoded_images_are_the_stored_bytes(name, split, classes, in_memory_bytes, photographs):
    source = load(photographs, name=name, split=split, encoded=True, in_memory_bytes=in_memory_bytes)
    images, labels = read(source)
    examples = stored(photographs, name, split)
    assert images.tolist() == [example["image"] for example in examples]
    np.testing.assert_array_equal(labels, [example["label"] for example in examples])
    assert source.classes == len(source.class_names) == classes


def test_cifar_is_read_from_a_prepared_folder(tmp_path):
    source = load(write_cifar10(tmp_path, rows=20, test_rows=4), name="cifar10")
    images, labels = read(source)
    examples = list(tfds.load("cifar10", data_dir=tmp_path, split="train").as_numpy_iterator())
    found = sorted(
        (label, np.rint(255 * image).astype(np.uint8).tobytes()) for image, label in zip(images, labels, strict=True)
    )
    assert found == sorted((example["label"], example["image"].tobytes()) for example in examples)
    assert (images.shape[1:], source.class_names[:2]) == ((32, 32, 3), ("airplane", "automobile"))


def test_crops_of_imagenet_are_the_same_rows_on_one_two_and_three_workers(photographs):
    crop = augment.on_images(augment.decode_resized_crop((16, 16), flip=True))
    source = load(photographs, name="imagenet2012", encoded=True, in_memory_bytes=0, shuffle=True, global_batch=6)
    source = source.map(crop)

    def shares(workers, worker):
        batches = source.local_batches(Places(workers, worker, 1), epoch=1, step=1)
        return [share.batch for (share,) in batches.take(source.cardinality).as_numpy_iterator()]

    alone = shares(1, 0)
    for workers in (2, 3):
        apart = [shares(workers, worker) for worker in range(workers)]
        for whole, *parts in zip(alone, *apart, strict=True):
            assert_same(whole, [np.concatenate(columns) for columns in zip(*parts, strict=True)])


def test_the_centre_of_imagenet_is_read_for_evaluation(photographs):
    source = load(photographs, name="imagenet2012", split="validation", encoded=True)
    images, _ = read(source.map(augment.on_images(augment.decode_centre_crop((16, 16)))))
    for image, example in zip(images, stored(photographs, "imagenet2012", "validation"), strict=True):
        whole = tf.io.decode_jpeg(example["image"])
        height, width, _ = whole.shape
        side = round(0.875 * min(height, width))
        top, left = (height - side) // 2, (width - side) // 2
        expected = tf.image.resize(whole[top : top + side, left : left + side], (16, 16)) / 255
        np.testing.assert_allclose(image, expected, atol=1e-6)


def test_encoded_is_refused_where_it_has_no_effect(photographs):
    with pytest.raises(
        ValueError, match=r"imagenet2012: with encoded, image_size has no effect\. Leave one of them out"
    ):
        load(photographs, name="imagenet2012", encoded=True, image_size=(4, 4))
    with pytest.raises(ValueError, match="imagenet2012: encoded is True, but label has no image"):
        load(photographs, name="imagenet2012", encoded=True, keys="label")


@pytest.mark.parametrize("in_memory_bytes", [0, 2**30])
def test_masks_keep_the_numbers_of_their_classes(in_memory_bytes, photographs):
    options = {"name": "oxford_iiit_pet", "keys": ("image", "segmentation_mask"), "in_memory_bytes": in_memory_bytes}
    images, masks = read(load(photographs, image_size=(16, 20), **options))
    assert (images.dtype, images.max() <= 1, masks.dtype) == (np.float32, True, np.int32)
    for mask, example in zip(masks, stored(photographs, "oxford_iiit_pet", "train"), strict=True):
        whole = example["segmentation_mask"]
        rows, columns = ((np.arange(n) * size) // n for n, size in zip((16, 20), whole.shape[:2], strict=True))
        np.testing.assert_array_equal(mask, whole[rows][:, columns])


def test_a_feature_is_named_as_a_mask_where_tfds_does_not_mark_it(tfds_folder):
    pair = load(tfds_folder, keys=("image", "sketch"), image_size=(2, 2), masks=("sketch",))
    _, masks = read(pair)
    assert sorted(masks[:, 0, 0, 0]) == [10 * row for row in range(23)]
    with pytest.raises(ValueError, match=r"tiny_set: masks has \['label'\]\. Use names of images in keys"):
        load(tfds_folder, masks=("label",))
