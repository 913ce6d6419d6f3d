"""Flips, crops and erasing, against NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from support.splitmix import SEEDS, numpy_uniforms

from tfdist.data import augment
from tfdist.ops.refusals import as_usage_errors


def images(rows=5, height=6, width=8):
    return np.random.default_rng(1).random((rows, height, width, 3), np.float32)


def test_flip_mirrors_the_rows_whose_coin_says_so():
    coin = numpy_uniforms(1, stream=11)[:, 0] < 0.5
    assert 0 < coin.sum() < len(coin)
    expected = np.where(coin[:, None, None, None], images()[:, :, ::-1], images())
    np.testing.assert_array_equal(augment.flip()(images(), SEEDS), expected)


def test_pad_crop_cuts_the_old_size_out_of_the_padded_image():
    places = (numpy_uniforms(2, stream=12) * 5).astype(int)
    padded = np.pad(images(), [(0, 0), (2, 2), (2, 2), (0, 0)])
    expected = [p[y : y + 6, x : x + 8] for p, (y, x) in zip(padded, places, strict=True)]
    cut = augment.pad_crop(2)(tf.constant(images()), SEEDS)
    np.testing.assert_array_equal(cut, expected)
    assert cut.shape == (5, 6, 8, 3)


def test_a_resized_crop_of_the_whole_image_is_the_image():
    whole = augment.resized_crop((6, 8), area=(1.0, 1.0), ratio=(1.0, 1.0))
    square = images(height=8)
    np.testing.assert_allclose(
        augment.resized_crop((8, 8), area=(1, 1), ratio=(1, 1))(tf.constant(square), SEEDS),
        square,
        atol=1e-6,
    )
    # In a wide image, a part of proportion 1 is cut to the image's height.
    assert whole(tf.constant(images()), SEEDS).shape == (5, 6, 8, 3)


def test_a_resized_crop_keeps_to_its_area_and_proportion():
    ramp = np.linspace(0, 1, 101, dtype=np.float32)
    rows, columns = np.meshgrid(ramp, ramp, indexing="ij")
    square = np.repeat(np.stack([rows, columns], -1)[None], 200, axis=0)
    seeds = tf.stack([tf.zeros(200, tf.int64), tf.range(200, dtype=tf.int64)], axis=1)
    cut = augment.resized_crop((5, 5), area=(0.1, 0.5))(tf.constant(square), seeds).numpy()
    tall, wide = np.ptp(cut[..., 0], axis=(1, 2)), np.ptp(cut[..., 1], axis=(1, 2))
    assert 0.1 - 1e-4 < (tall * wide).min() < 0.15
    assert 0.45 < (tall * wide).max() < 0.5 + 1e-4
    assert (wide / tall).min() > 3 / 4 - 1e-4
    assert (wide / tall).max() < 4 / 3 + 1e-4
    assert cut[..., 0].min() < 0.05
    assert cut[..., 0].max() > 0.95


@pytest.mark.parametrize(
    "function",
    [augment.flip(), augment.pad_crop(2), augment.resized_crop((6, 8)), augment.random_erasing(1.0)],
)
def test_no_rows_stay_no_rows(function):
    batches = tf.data.Dataset.from_tensors((images(rows=0), SEEDS[:0])).map(function)
    assert next(iter(batches)).shape == (0, 6, 8, 3)


def erased(values, probability, area, ratio, value):
    """Erases a rectangle of each row of SEEDS, in NumPy; returns the images and the shares that were erased."""
    result, shares, (_, height, width, _) = values.copy(), [], values.shape
    for image, (coin, level, shape, top, left) in zip(result, numpy_uniforms(5, stream=15).astype(float), strict=True):
        pixels = (area[0] + level * (area[1] - area[0])) * height * width
        proportion = ratio[0] * (ratio[1] / ratio[0]) ** ((np.floor(shape * 65536) + 0.5) / 65536)
        tall, wide = int(min((pixels * proportion) ** 0.5, height)), int(min((pixels / proportion) ** 0.5, width))
        y, x = int(top * (height - tall + 1)), int(left * (width - wide + 1))
        if coin < probability:
            image[y : y + tall, x : x + wide] = value
        shares.append((coin < probability) * tall * wide / (height * width))
    return result, np.array(shares)


@pytest.mark.parametrize("value", [0.0, (0.1, 0.2, 0.3)])
@pytest.mark.parametrize("probability", [0.6, 1.0])
def test_erasing_overwrites_one_rectangle_of_some_rows(probability, value):
    noise = images(height=20, width=30)
    expected, shares = erased(noise, probability, (0.02, 0.4), (0.3, 1 / 0.3), value)
    assert (shares > 0).any() and (shares == 0).any() == (probability < 1)
    ours = augment.random_erasing(probability, value=value)(tf.constant(noise), SEEDS)
    np.testing.assert_array_equal(ours, expected)


def test_erasing_keeps_to_its_probability_its_area_and_its_proportion():
    seeds = tf.stack([tf.zeros(2000, tf.int64), tf.range(2000, dtype=tf.int64)], axis=1)
    ones = tf.ones((2000, 50, 50, 1))
    lost = augment.random_erasing(0.3, area=(0.1, 0.2), ratio=(0.5, 2.0))(ones, seeds).numpy()[..., 0] == 0
    share = lost.mean((1, 2))
    hit = share > 0
    assert abs(hit.mean() - 0.3) < 0.03
    assert 0.09 < share[hit].min() < 0.11 and 0.18 < share[hit].max() <= 0.2
    tall, wide = lost.any(2).sum(1)[hit], lost.any(1).sum(1)[hit]
    np.testing.assert_array_equal(tall * wide, lost.sum((1, 2))[hit])
    assert (tall / wide).min() > 0.45 and (tall / wide).max() < 2.2
    assert abs(np.log(tall / wide).mean()) < 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"probability": 1.5}, "random_erasing: probability is 1.5. Use a number from 0 to 1."),
        (
            {"area": (0.4, 0.1)},
            "random_erasing: area is (0.4, 0.1). Use two numbers above 0 to 1, the smaller one first.",
        ),
        ({"area": 0.3}, "random_erasing: area is 0.3. Use two numbers above 0 to 1, the smaller one first."),
        ({"ratio": (0, 2)}, "random_erasing: ratio is (0, 2). Use two numbers above 0, the smaller one first."),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError) as error:
        augment.random_erasing(**arguments)
    assert str(error.value) == message


def jpegs(count=5, height=40, width=60):
    """Returns smooth encoded images."""
    ramp = np.linspace(0, 200, height * width * 3).reshape(height, width, 3)
    return tf.stack([tf.io.encode_jpeg(np.uint8(ramp + 10 * i), quality=95) for i in range(count)])


def windows(height, width, area=(0.08, 1.0)):
    """Returns (top, left, height, width) of each row of SEEDS, in NumPy."""
    share, proportion, top, left = numpy_uniforms(4, stream=13).T
    share = area[0] + share * (area[1] - area[0])
    # The middle of one of 65,536 equal parts.
    proportion = (3 / 4) * (16 / 9) ** ((np.floor(proportion * 65536) + 0.5) / 65536)
    tall = np.clip(np.sqrt(share / proportion * height * width), 1, height).astype(int)
    wide = np.clip(np.sqrt(share * proportion * height * width), 1, width).astype(int)
    return np.stack([top * (height - tall + 1), left * (width - wide + 1), tall, wide], 1).astype(int)


@pytest.mark.parametrize("flip", [False, True])
def test_a_decoded_crop_is_the_same_part_of_the_whole_image_resized(flip):
    images = jpegs()
    coin = numpy_uniforms(1, stream=11)[:, 0] < 0.5
    expected = []
    for data, mirrored, (top, left, tall, wide) in zip(images, coin, windows(40, 60), strict=True):
        part = tf.io.decode_jpeg(data).numpy()[top : top + tall, left : left + wide]
        expected.append(tf.image.resize(part[:, ::-1] if flip and mirrored else part, (8, 8)) / 255)
    ours = augment.decode_resized_crop((8, 8), flip=flip)(images, SEEDS)
    np.testing.assert_allclose(ours, np.stack(expected), atol=1e-6)


def test_a_decoded_crop_takes_other_formats_too_and_no_rows_at_all():
    noise = np.random.default_rng(0).integers(0, 255, (5, 40, 60, 3), np.uint8)
    pngs = tf.stack([tf.io.encode_png(image) for image in noise])
    top, left, tall, wide = windows(40, 60)[0]
    ours = augment.decode_resized_crop((8, 8))(pngs, SEEDS)
    expected = tf.image.resize(noise[0, top : top + tall, left : left + wide], (8, 8)) / 255
    np.testing.assert_allclose(ours[0], expected, atol=1e-6)
    assert augment.decode_resized_crop((8, 8))(pngs[:0], SEEDS[:0]).shape == (0, 8, 8, 3)


@pytest.mark.parametrize(
    ("size", "part"), [((8, 8), (2, 12, 35, 35)), ((8, 16), (7, 4, 26, 52)), ((9, 6), (2, 18, 35, 23))]
)
def test_the_centre_crop_is_a_full_decoding_cut_and_resized(size, part):
    top, left, tall, wide = part
    expected = [
        tf.image.resize(tf.io.decode_jpeg(data)[top : top + tall, left : left + wide], size) for data in jpegs()
    ]
    ours = augment.decode_centre_crop(size)(jpegs(), SEEDS)
    np.testing.assert_allclose(ours, np.stack(expected) / 255, atol=1e-6)
    assert augment.decode_centre_crop(size)(jpegs()[:0], SEEDS[:0]).shape == (0, *size, 3)


def test_the_centre_crop_is_224_of_a_shorter_side_of_256_as_pillow_makes_it():
    from PIL import Image

    soft = tf.image.resize(np.random.default_rng(0).uniform(90, 150, (4, 5, 3)), (300, 400)).numpy().astype(np.uint8)
    pillow = Image.fromarray(soft).resize((341, 256), Image.Resampling.BILINEAR).crop((58, 16, 282, 240))
    ours = augment.decode_centre_crop((224, 224))(tf.io.encode_png(soft)[None], SEEDS[:1])[0]
    np.testing.assert_allclose(ours * 255, np.asarray(pillow), atol=2)


def test_a_share_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"share is 0\. Use a number above 0 and up to 1"):
        augment.decode_centre_crop((8, 8), share=0)


def test_a_decoded_crop_of_one_row_is_the_one_that_it_has_among_others():
    crop = augment.decode_resized_crop((8, 8), flip=True, area=(0.2, 0.5))
    together = crop(jpegs(), SEEDS)
    for row in range(5):
        np.testing.assert_array_equal(crop(jpegs()[row : row + 1], SEEDS[row : row + 1])[0], together[row])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: augment.pad_crop(-1), "pad_crop: padding is -1. Use a whole number from 1."),
        (lambda: augment.pad_crop(1.5), "pad_crop: padding is 1.5. Use a whole number from 1."),
        (
            lambda: augment.resized_crop(8),
            "resized_crop: size is 8. Use two whole numbers from 1: (height, width).",
        ),
        (
            lambda: augment.resized_crop((8, 8), area=(1, 2)),
            "resized_crop: area is (1, 2). Use two numbers above 0 to 1, the smaller one first.",
        ),
        (
            lambda: augment.decode_resized_crop((8, 8), ratio=(4 / 3, 0.5)),
            "decode_resized_crop: ratio is (1.3333333333333333, 0.5). Use two numbers above 0, the smaller one first.",
        ),
        (
            lambda: augment.decode_centre_crop((8, 0)),
            "decode_centre_crop: size is (8, 0). Use two whole numbers from 1: (height, width).",
        ),
        (
            lambda: augment.decode_centre_crop((8, 8))(tf.constant(images()), SEEDS),
            "decode_centre_crop: the images are float32 (5, 6, 8, 3), which are decoded. Load the data with "
            "encoded=True.",
        ),
        (
            lambda: augment.pad_crop(1)(tf.zeros([5, 6, 8]), SEEDS),
            "pad_crop: the images are float32 (5, 6, 8). Use (B, H, W, C).",
        ),
        (
            lambda: augment.random_erasing()(tf.zeros([5, 6, 8, 3], tf.uint8), SEEDS),
            "random_erasing: the images are uint8 (5, 6, 8, 3). Use floats (B, H, W, C).",
        ),
    ],
)
def test_what_cannot_be_cropped_is_refused(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == message


@pytest.mark.parametrize("crop", [augment.decode_resized_crop((8, 8)), augment.decode_centre_crop((8, 8))])
def test_encoded_images_that_are_broken_are_counted_with_a_way_to_find_them(crop):
    whole = jpegs(1)[0].numpy()
    broken = tf.constant([whole, b"", b"no image", whole, whole[:100]])
    with (
        pytest.raises(ValueError, match=r"an image \(and 2 more of this batch\): cannot .*without encoded=True"),
        as_usage_errors(),
    ):
        tf.function(crop)(broken, SEEDS)
