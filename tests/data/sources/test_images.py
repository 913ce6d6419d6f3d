"""Folders of images, against NumPy and plain decoding."""

import logging
import shutil

import numpy as np
import pytest
import tensorflow as tf
from support.small_files import write_image

from tfdist import data
from tfdist.data import pixels
from tfdist.ops.refusals import as_usage_errors


def load(folder, **options):
    options = {"image_size": (6, 8), "shuffle": False, "global_batch": 100, **options}
    return data.load("images", data_dir=folder, **options)


def read(folder, **options):
    return next(load(folder, **options).dataset().as_numpy_iterator())


def test_images_come_sorted_by_class_and_name_with_values_in_0_to_1(image_folder):
    images, labels = read(image_folder)
    assert images.dtype == np.float32
    expected = np.repeat(np.arange(23) * 10 / 255, 6 * 8 * 3).reshape(23, 6, 8, 3)
    np.testing.assert_allclose(images, expected, rtol=1e-6)
    np.testing.assert_array_equal(labels, [0] * 9 + [1] * 14)
    source = load(image_folder)
    assert (source.classes, source.class_names) == (2, ("ant", "bee"))


@pytest.mark.parametrize("extension", ["png", "jpeg", "JPG", "bmp", "gif"])
def test_each_format_is_decoded(extension, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    smooth = np.broadcast_to(np.arange(8, dtype=np.uint8)[:, None] * 20, (6, 8, 3))
    path = tmp_path / "class" / f"one.{extension}"
    path.parent.mkdir()
    if extension == "bmp":
        path.write_bytes(bitmap(noise))
    elif extension == "gif":
        path.write_bytes(GIF)
    else:
        encode = tf.io.encode_png if extension == "png" else tf.io.encode_jpeg
        path.write_bytes(encode(noise if extension == "png" else smooth).numpy())
    image = read(tmp_path, image_size=(2, 2) if extension == "gif" else (6, 8))[0][0] * 255
    expected = {"png": noise, "bmp": noise, "gif": np.full((2, 2, 3), [255, 0, 0])}
    tolerance = 1e-3 if extension in expected else 8
    np.testing.assert_allclose(image, expected.get(extension, smooth), atol=tolerance)


# Two frames of 1 x 1: red, then blue.
GIF = bytes.fromhex(
    "474946383961010001008000 00ff00000000ff2c000000000100010000 02024401 002c000000000100010000 02024c01 003b"
)


def bitmap(image):
    """Writes an uncompressed 24-bit BMP; rows are stored from the bottom, blue first."""
    height, width, _ = image.shape
    pixels = image[::-1, :, ::-1].tobytes()  # 8 pixels a row: a multiple of 4 bytes
    numbers = [54 + len(pixels), 0, 54, 40, width, height]
    head = b"BM" + b"".join(n.to_bytes(4, "little") for n in numbers)
    rest = [len(pixels), 2835, 2835, 0, 0]
    head += (1).to_bytes(2, "little") + (24).to_bytes(2, "little") + bytes(4)
    return head + b"".join(n.to_bytes(4, "little") for n in rest) + pixels


def test_images_are_resized_with_anti_aliasing(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)
    write_image(tmp_path / "class" / "one.png", noise, shape=noise.shape)
    expected = tf.image.resize(noise / np.float32(255), (3, 4), antialias=True)
    np.testing.assert_allclose(read(tmp_path, image_size=(3, 4))[0][0], expected, atol=1e-6)


def test_keep_aspect_cuts_the_sides_off():
    wide = np.random.default_rng(0).random((4, 10, 3), np.float32)
    np.testing.assert_array_equal(pixels.resize(wide, (4, 4), keep_aspect=True), wide[:, 3:7])
    tall = np.random.default_rng(0).random((9, 4, 3), np.float32)
    np.testing.assert_array_equal(pixels.resize(tall, (2, 4), keep_aspect=True), pixels.resize(tall[3:5], (2, 4)))


def test_one_channel_gives_grey_images(image_folder):
    images, _ = read(image_folder, channels=1)
    assert images.shape == (23, 6, 8, 1)
    np.testing.assert_allclose(images[:, 0, 0, 0], np.arange(23) * 10 / 255, rtol=1e-3)
    with pytest.raises(ValueError, match=r"channels is 4\. Use 3 for RGB or 1 for grey"):
        load(image_folder, channels=4)


def test_a_folder_without_splits_is_the_train_split_and_no_other(image_folder):
    unsplit = image_folder / "train"
    np.testing.assert_array_equal(read(unsplit)[1], read(image_folder)[1])
    with pytest.raises(FileNotFoundError, match=r"no sub-folder 'test'; it has \['ant', 'bee'\]"):
        load(unsplit, split="test")
    with pytest.raises(FileNotFoundError, match=r"no sub-folder 'val'; it has \['train'\]"):
        load(image_folder, split="val")


def test_another_split_has_the_class_numbers_of_train(image_folder, tmp_path):
    folder = shutil.copytree(image_folder, tmp_path / "copy")
    write_image(folder / "test" / "bee" / "one.png", 5)
    assert read(folder, split="test")[1].tolist() == [1]
    assert load(folder, split="test").classes == 2
    write_image(folder / "test" / "cat" / "one.png", 5)
    with pytest.raises(ValueError, match=r"has classes that 'train' lacks: \['cat'\]"):
        load(folder, split="test")


def test_other_files_are_left_out_with_one_log_line(image_folder, tmp_path, caplog):
    folder = shutil.copytree(image_folder, tmp_path / "copy")
    for name in ("notes.txt", "more.csv", ".DS_Store"):
        (folder / "train" / "ant" / name).write_text("no image")
    with caplog.at_level(logging.WARNING, logger="tfdist"):
        assert load(folder).rows == 23
    (record,) = caplog.records
    assert "2 files are left out because they are not .png," in record.getMessage()


@pytest.mark.parametrize("content", [b"", b"no image", "half"])
def test_a_file_that_cannot_be_decoded_is_named(content, tmp_path):
    path = write_image(tmp_path / "class" / "broken.png", 5, shape=(50, 50, 3))
    path.write_bytes(path.read_bytes()[:60] if content == "half" else content)
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=r"class/broken\.png: cannot be decoded as an image\. Repair it or remove it",
    ):
        read(tmp_path)


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has no sub-folders\. Make one for each class"):
        load(tmp_path)
    (tmp_path / "class").mkdir()
    with pytest.raises(ValueError, match="holds no images"):
        load(tmp_path)


def test_encoded_images_are_the_bytes_of_their_files(image_folder):
    images, labels = next(load(image_folder, image_size=None, encoded=True).dataset().as_numpy_iterator())
    files = sorted((image_folder / "train").glob("*/*.png"))
    assert images.tolist() == [file.read_bytes() for file in files]
    np.testing.assert_array_equal(labels, [0] * 9 + [1] * 14)
    with pytest.raises(ValueError, match="with encoded, image_size, channels and keep_aspect have no effect"):
        load(image_folder, encoded=True)


def test_all_broken_files_of_a_batch_are_counted(image_folder, tmp_path):
    folder = shutil.copytree(image_folder, tmp_path / "copy")
    for number in (2, 7):
        (folder / "train" / "ant" / f"{number:02d}.png").write_bytes(b"no image")
    with (
        pytest.raises(ValueError, match=r"02\.png \(and 1 more of this batch\): cannot be decoded as an image\."),
        as_usage_errors(),
    ):
        read(folder)


def test_a_file_that_is_gone_is_not_called_broken(image_folder, tmp_path):
    folder = shutil.copytree(image_folder, tmp_path / "copy")
    source = load(folder)
    (folder / "train" / "ant" / "02.png").unlink()
    with pytest.raises(tf.errors.NotFoundError, match=r"02\.png; No such file"):
        next(iter(source.dataset()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 16}, "image_size is 16. Use two whole numbers from 1: (height, width)."),
        ({"image_size": (0, 16)}, "image_size is (0, 16). Use two whole numbers from 1: (height, width)."),
        ({"image_size": "16"}, "image_size is '16'. Use two whole numbers from 1: (height, width)."),
        ({"keep_aspect": "no"}, "keep_aspect is 'no'. Use True or False."),
    ],
)
def test_options_of_another_kind_are_refused(options, message, image_folder):
    with pytest.raises(ValueError) as error:
        load(image_folder, **options)
    assert str(error.value) == f"images: {message}"
